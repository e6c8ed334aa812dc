"""How a setting is declared: its default, what it must be and what it means, once, beside its name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from macurr.errors import ConfigError
from macurr.training.checks import Check, instance

__all__ = ["Setting", "build", "check_tree", "described", "flat", "part", "setting", "settings_of"]

_KEY = "macurr"
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of the tree.

    Attributes:
        name: Its name, unique over the tree.
        part: The part of the tree that it stands in; "" at the root.
        group: What it is listed under, in help and in files.
        default: Its default.
        check: What it must be.
        text: What it means, in a few words.
        default_text: Its default in words, where the value does not say it.
        changeable: Whether a run may change it when it is resumed.
        metavar: What stands for its value on the command line.
    """

    name: str
    part: str
    group: str
    default: Any
    check: Check
    text: str
    default_text: str = ""
    changeable: bool = False
    metavar: str = ""

    @property
    def help(self) -> str:
        """What it means, and its default."""
        return f"{self.text} (default: {self.default_text or _shown(self.default)})"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int) and value >= 1_000_000:
        return f"{value:_}"  # as it may be typed
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def setting(
    default: Any,
    check: Check,
    text: str,
    *,
    group: str = "",
    default_text: str = "",
    changeable: bool = False,
    metavar: str = "",
) -> Any:
    """A field of a part of the tree.

    Args:
        default: Its default, or what makes it.
        check: What it must be.
        text: What it means, as a phrase that starts with a small letter; it is shown by --help and in files.
        group: What it is listed under; by default as its part.
        default_text: The default in words, where the value does not say it.
        changeable: Whether a run may change it when it is resumed.
        metavar: What stands for its value on the command line.
    """
    metadata = {_KEY: (check, text, group, default_text, changeable, metavar)}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def part(kind: type, title: str, text: str) -> dict[str, Any]:
    """The metadata of a field that holds a part of the tree.

    Args:
        kind: Its class.
        title: What its settings are listed under.
        text: What it is about.
    """
    article = "an" if kind.__name__[0] in "AEIO" else "a"
    check = instance(kind, f"{article} {kind.__name__}")
    return {_KEY: (check, text, title, "", False, "")}


def described(kind: type[_T]) -> type[_T]:
    """Write the attributes of a part into its docstring, from the texts of its settings."""
    lines = [inspect.cleandoc(kind.__doc__ or ""), "", "Attributes:"]
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]  # used on dataclasses only
        text = item.metadata[_KEY][1]
        lines.append(f"    {item.name}: {text[0].upper()}{text[1:]}.")
    kind.__doc__ = "\n".join(lines)
    return kind


def settings_of(kind: type, name: str = "", title: str = "") -> Iterator[Setting]:
    """The settings of a tree, in the order in which they are listed.

    Args:
        kind: Its class, or that of a part.
        name: The part's name.
        title: What the part's settings are listed under.
    """
    parts = []
    for item in dataclasses.fields(kind):
        check, text, group, default_text, changeable, metavar = item.metadata[_KEY]
        if check.kind == "part":
            parts.append((item.default_factory, item.name, group))
        else:
            made: Any = item.default_factory
            default = item.default if made is dataclasses.MISSING else made()
            yield Setting(
                item.name, name, group or title, default, check, text, default_text, changeable, metavar
            )
    for factory, below, group in parts:
        yield from settings_of(factory, below, group)  # type: ignore[arg-type]  # the class itself


def check_tree(config: Any) -> None:
    """Check every setting of a tree by itself; what is only written differently is brought into form.

    Raises:
        ConfigError: one is not of its type or out of its range.
    """
    for item in dataclasses.fields(config):
        check: Check = item.metadata[_KEY][0]
        value = check.taken(getattr(config, item.name))
        if not check.holds(value):
            raise ConfigError(f"{item.name}={value!r} cannot be used: it must be {check.wanted}.")
        object.__setattr__(config, item.name, value)  # trees are frozen; this one is being made
        if check.kind == "part":
            check_tree(value)


def build(kind: Callable[..., _T], values: Mapping[str, Any]) -> _T:
    """A tree from the values of its settings by their names alone.

    Args:
        kind: The class of the tree.
        values: What differs from the defaults; names that the tree does not have are refused by its class.
    """
    left, parts = dict(values), {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]  # a dataclass
        if item.metadata[_KEY][0].kind == "part":
            below: Any = item.default_factory
            own = {
                field.name: left.pop(field.name) for field in dataclasses.fields(below) if field.name in left
            }
            parts[item.name] = below(**own)
    return kind(**left, **parts)


def flat(config: Any) -> dict[str, Any]:
    """The values of a tree's settings by their names alone."""
    return {
        item.name: getattr(getattr(config, item.part) if item.part else config, item.name)
        for item in settings_of(type(config))
    }
