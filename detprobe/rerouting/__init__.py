"""Send aten ops that need not repeat to kernels that do, in models that know nothing of it."""

from detprobe.rerouting._context import deterministic
from detprobe.rerouting._report import Rerouted

__all__ = ["Rerouted", "deterministic"]
