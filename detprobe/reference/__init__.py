"""The definition of detprobe's native ops in numpy: slow, plain, and a witness of its own.

Nothing here imports the extension, torch or the rest of detprobe. The text that it follows is csrc/README.md; the CPU
kernels, the emulated CUDA kernels and the CUDA kernels have to give the same bits.
"""

from detprobe.reference.compare import Format, Kind, Record, compare
from detprobe.reference.digest import digest

__all__ = ["Format", "Kind", "Record", "compare", "digest"]
