"""Functions of the user's, named in settings by their import path."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from macurr.errors import ConfigError

__all__ = ["imported", "line_of"]


def imported(setting: str, path: str, named: Sequence[str], kind: str) -> Callable[..., Any]:
    """The function at an import path, "module:function".

    Args:
        setting: The setting that names it, for errors.
        path: The path.
        named: What the setting may be instead.
        kind: What function is wanted, for errors.

    Raises:
        ConfigError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{setting}={path!r} cannot be used ({error}): it must be one of {', '.join(named)}, or the import path "
            f"module:function of a function {kind}."
        ) from error
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise ConfigError(
            f"{setting}={path!r} cannot be used: {type(error).__name__}: {error}{line_of(error)}. Mend its module."
        ) from error
    if not callable(found):
        raise ConfigError(f"{setting}={path!r} names {found!r}, which cannot be called. Name a function.")
    function: Callable[..., Any] = found
    return function


def line_of(error: BaseException) -> str:
    """Where something was raised, in brackets; nothing where it says so itself, as errors of syntax do."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"
