"""What every report can do besides holding data: go to JSON and come back, and be shown.

A report is a frozen dataclass that inherits from `Document`. `str()`, `_repr_html_()` and `to_html()` import
`detprobe.report` lazily: the one edge that points from data to its views.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, TypeVar

from detprobe.errors import ArgumentValueError

__all__ = ["Document", "encode", "entries", "load", "record", "strings"]

_Kind = TypeVar("_Kind")


class Document:
    """A report that is saved and shown. The class is a frozen dataclass with an integer field `schema`."""

    kind: ClassVar[str]
    """What a saved report calls itself; one word."""

    def __str__(self) -> str:
        from detprobe.report.terminal import render_text

        return render_text(self)

    def _repr_html_(self) -> str:
        from detprobe.report.html import render_fragment

        return render_fragment(self)

    def to_html(self, path: str | Path) -> None:
        """Write one offline HTML file. The same report gives the same bytes."""
        from detprobe.report.html import render_page

        Path(path).write_text(render_page(self), encoding="utf-8", newline="\n")

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as strict JSON text (infinities and NaN as strings); also written to `path` when given."""
        plain = {"kind": self.kind, **self._plain()}
        text = json.dumps(encode(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8", newline="\n")
        return text

    def _plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "int | None": (int, NoneType),
    "float | None": (float, int, NoneType),
    "dict[str, Any]": (dict,),
}
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def load(text: str, kind: type[Document], schema: int) -> dict[str, Any]:
    """The object in the text, if it is a report of this kind and schema.

    Raises:
        ArgumentValueError: it is something else.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentValueError(f"expected the JSON text of a detprobe report, got something else: {error}") from None
    if not isinstance(raw, dict) or "schema" not in raw:
        raise ArgumentValueError("expected the JSON text of a detprobe report: an object with a 'schema' entry")
    found = raw.pop("kind", "scan")  # the first scans did not say
    if found != kind.kind:
        raise ArgumentValueError(f"expected a report of kind {kind.kind!r}, got {found!r:.80}")
    if raw["schema"] != schema:
        raise ArgumentValueError(
            f"expected schema {schema}, got {raw['schema']!r:.80}: read it with the detprobe that wrote it"
        )
    return raw


def record(kind: type[_Kind], raw: Any) -> _Kind:
    """One dataclass from the object that `to_json` made of it; a report from elsewhere may hold anything.

    A field whose metadata has "one_of" takes these values alone.
    """
    where = f"not a detprobe report: {kind.__name__}"
    if not isinstance(raw, dict):
        raise ArgumentValueError(f"{where}: expected an object, got {type(raw).__name__}")
    values = dict(raw)
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        if entry.name not in values:
            if entry.default is dataclasses.MISSING:
                raise ArgumentValueError(f"{where}.{entry.name} is missing")
            continue
        value = values[entry.name]
        if str(entry.type).startswith("float") and isinstance(value, str) and value in _NON_FINITE:
            value = values[entry.name] = _NON_FINITE[value]
        allowed = _TYPES.get(str(entry.type))
        if allowed is not None and (
            not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
        ):
            raise ArgumentValueError(f"{where}.{entry.name}: expected {entry.type}, got {value!r:.80}")
        known = entry.metadata.get("one_of")
        if known is not None and value not in known:
            raise ArgumentValueError(f"{where}.{entry.name}: expected one of {', '.join(known)}, got {value!r:.80}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ArgumentValueError(f"{where}: {error}") from None


def entries(raw: Any, name: str) -> list[Any]:
    """The list under `name`."""
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, list):
        raise ArgumentValueError(f"not a detprobe report: {name}: expected a list, got {type(value).__name__}")
    return value


def strings(raw: Any, name: str) -> tuple[str, ...]:
    """The list of texts under `name`."""
    values = entries(raw, name)
    if not all(isinstance(value, str) for value in values):
        raise ArgumentValueError(f"not a detprobe report: {name}: expected strings")
    return tuple(values)


def encode(value: Any) -> Any:
    """Non-finite floats become strings: JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value
