"""What a context replaced, and what it had to leave alone."""

from __future__ import annotations

from typing import Any

import detprobe.bits  # loads the extension, or says how to build it

__all__ = ["Rerouted"]

_C: Any = detprobe._C


class Rerouted:
    """The calls of one `detprobe.deterministic()`, counted while it is open and as they were when it closed.

    Autograd's threads count into the context in which backward() was called. A context counts what ran in those inside
    of it too.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._compiled: dict[str, int] = {}

    @property
    def replaced(self) -> dict[str, int]:
        """Calls that ran a kernel of detprobe, by op without overload: {"aten::index_add": 12}; most often first."""
        return _by_count(_C.reroute_counts(self._session)[0])

    @property
    def uncovered(self) -> dict[str, int]:
        """Calls of ops that need not repeat and ran as they are, by op; most often first.

        On a CPU nearly every op of torch repeats. A compiled region that could not be rewritten is named here too.
        """
        return _by_count({**_C.reroute_counts(self._session)[1], **self._compiled})

    def __str__(self) -> str:
        replaced, uncovered = self.replaced, self.uncovered
        title = f"detprobe.deterministic(): {_calls(replaced)} replaced, {_calls(uncovered)} not covered"
        rows = [("replaced", *row) for row in replaced.items()] + [("not covered", *row) for row in uncovered.items()]
        if not rows:
            return title
        wide = max(len(op) for _, op, _ in rows)
        digits = max(len(str(n)) for _, _, n in rows)
        return "\n".join([title, *(f"  {kind:<11}  {op:<{wide}}  {n:>{digits}}" for kind, op, n in rows)])

    def __repr__(self) -> str:
        return f"Rerouted(replaced={self.replaced}, uncovered={self.uncovered})"


def _by_count(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _calls(counts: dict[str, int]) -> str:
    n = sum(counts.values())
    return "1 call" if n == 1 else f"{n} calls"
