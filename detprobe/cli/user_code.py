"""Finds and calls the user's factory (`FILE.py:factory` or `package.module:factory`), and shows what it raised."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["find", "make", "shown"]

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_EXPECTED = "expected FILE.py:factory or package.module:factory"


def make(target: str) -> tuple[Any, ...]:
    """What the factory returns: (model, inputs) or (model, inputs, loss).

    Raises:
        ArgumentValueError: there is no such file, module or factory, or the user's code raised (its traceback is in
            the text).
        ArgumentTypeError: the factory is no function, or returns something else.
    """
    factory = find(target, returns="(model, inputs)")
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise ArgumentValueError(f"{target} raised {shown(error)}") from None
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        got = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
        raise ArgumentTypeError(f"{target}: expected it to return (model, inputs) or (model, inputs, loss), got {got}")
    return made


def find(target: str, *, returns: str) -> Callable[..., Any]:
    """The factory, not called.

    Raises:
        ArgumentValueError: there is no such file, module or factory, or importing it raised.
        ArgumentTypeError: it is no function; the text says what one `returns`.
    """
    home, colon, name = target.rpartition(":")
    if not colon or not home or not name.isidentifier():
        raise ArgumentValueError(f"{_EXPECTED}, got {target!r}")
    module = _from_file(Path(home)) if home.endswith(".py") else _from_package(home)
    factory = getattr(module, name, None)
    if factory is None:
        raise ArgumentValueError(f"{home} has no {name!r}{_guess(name, module)}")
    if not callable(factory):
        raise ArgumentTypeError(f"{target}: expected a function that returns {returns}, got {type(factory).__name__}")
    return cast(Callable[..., Any], factory)


def _from_file(path: Path) -> ModuleType:
    """The file as a module, with its folder importable, as `python FILE.py` has it."""
    if not path.is_file():
        raise ArgumentValueError(f"{path}: there is no such file; {_EXPECTED}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ArgumentValueError(f"{path}: cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickle look a class's module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ArgumentValueError(f"{path} raised {shown(error)}") from None
    return module


def _from_package(name: str) -> ModuleType:
    """A module by its dotted name, from the working folder too, as `python -m` has it."""
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ArgumentValueError(f"{name}: there is no module {error.name!r} here; {_EXPECTED}") from None
        raise ArgumentValueError(f"{name} raised {shown(error)}") from None
    except (Exception, SystemExit) as error:
        raise ArgumentValueError(f"{name} raised {shown(error)}") from None


def _guess(name: str, module: ModuleType) -> str:
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    close = difflib.get_close_matches(name, functions, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def shown(error: BaseException) -> str:
    """The error and its traceback, without the frames of this package and of Python's import machinery."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", _PACKAGE))
    ]
    last = traceback.format_exception_only(error)[0].strip()
    return f"{last}\n{''.join(traceback.format_list(frames))}".rstrip()
