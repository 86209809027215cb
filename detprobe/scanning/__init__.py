"""Find the op that does not repeat: replay every op of a step on frozen inputs."""

from detprobe.scanning._assert import assert_deterministic
from detprobe.scanning._scan import scan

__all__ = ["assert_deterministic", "scan"]
