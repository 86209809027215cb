"""`python -m detprobe`: the command line."""

import sys

from detprobe.cli import main

sys.exit(main())
