"""What every page is made of: escaped text, and lists of facts."""

from __future__ import annotations

from html import escape
from typing import Any

from detprobe.report.wording import clean

__all__ = ["code", "facts", "text"]


def text(value: str) -> str:
    return escape(clean(value), quote=True)


def code(value: str) -> str:
    return f"<code>{text(value)}</code>"


def facts(title: str, values: dict[str, Any]) -> str:
    """Names and values, folded up under their title."""
    lines = "".join(f"<dt>{text(str(name))}</dt><dd>{text(_shown(value))}</dd>" for name, value in values.items())
    return f"<details><summary><strong>{title}</strong></summary><dl>{lines}</dl></details>"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)
