"""The settings of a run as options: made from the tree of settings, which says each once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from macurr.cli.options import names, pair, sizes, whole
from macurr.errors import ConfigError, MissingDependencyError
from macurr.training.config import Setting, TrainConfig, settings_of

__all__ = ["add_settings", "flag", "of_file", "of_options"]

_SERIAL = {"transport": "local", "workers": 1}
_TYPES: dict[str, Callable[[str], Any]] = {
    "whole": whole,
    "real": float,
    "text": str,
    "sizes": sizes,
    "names": names,
}
_METAVARS = {"whole": "N", "real": "X", "text": "TEXT", "sizes": "N,N", "names": "NAME,NAME"}


def flag(name: str) -> str:
    """The option of a setting."""
    return "--" + ("env-arg" if name == "env_args" else name.replace("_", "-"))


def add_settings(parser: Any) -> dict[str, Any]:
    """Add an option for each setting, in groups. What is not given stays out of the parsed arguments.

    Args:
        parser: The parser, which suppresses defaults.

    Returns:
        The groups by their titles, for more options.
    """
    groups: dict[str, Any] = {}
    for item in settings_of(TrainConfig):
        if item.group not in groups:
            groups[item.group] = parser.add_argument_group(item.group)
        _add(groups[item.group], item)
    return groups


def _add(group: Any, item: Setting) -> None:
    text, check = item.help.replace("%", "%%"), item.check
    if check.kind == "flag":
        group.add_argument(flag(item.name), action=argparse.BooleanOptionalAction, help=text)
    elif check.kind == "keywords":
        text = text.replace(" (default", "; may be repeated (default")
        group.add_argument(
            flag(item.name), dest=item.name, metavar="KEY=VALUE", action="append", type=pair, help=text
        )
    elif check.choices:
        group.add_argument(flag(item.name), choices=check.choices, help=text)
    else:
        kind = _TYPES[check.kind]
        group.add_argument(
            flag(item.name),
            metavar=item.metavar or _METAVARS[check.kind],
            type=_or_none(kind) if check.optional else kind,
            help=text,
        )


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Also "none": it takes back what a file of settings says."""

    def read(text: str) -> Any:
        return None if text == "none" else kind(text)

    read.__name__ = getattr(kind, "__name__", "value")
    return read


def of_options(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The values of settings from the options that were given.

    Args:
        given: The options, by the names of settings; with "serial" where that was given.
        before: The values that a file gave, which the options override.

    Raises:
        ConfigError: two options contradict each other.
    """
    values = dict(given)
    if values.pop("serial", False):
        wrong = [name for name in _SERIAL if given.get(name, _SERIAL[name]) != _SERIAL[name]]
        if wrong:
            raise ConfigError(
                f"--serial is short for --transport local --workers 1, and {flag(wrong[0])} {given[wrong[0]]} says "
                "otherwise. Leave one of them out."
            )
        values.update(_SERIAL)
    if "env_args" in values:
        # Another environment has other keywords.
        kept = {} if "env" in given else before.get("env_args", {})
        values["env_args"] = {**kept, **dict(values["env_args"])}
    elif "env" in given and given["env"] != before.get("env", given["env"]):
        values["env_args"] = {}
    return {**before, **values}


def of_file(path: str) -> dict[str, Any]:
    """The values of settings that a file of them gives.

    Raises:
        ConfigError: it cannot be read, or holds something else.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        from macurr.training.config.text import read
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise MissingDependencyError.for_extra("PyYAML", "train", "--config") from error
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--config {path} cannot be read: {getattr(error, 'strerror', None) or error}. Name a file of settings, "
            "such as the config.yaml of a run."
        ) from error
    return read(text, path)
