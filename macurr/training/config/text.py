"""Settings as YAML: grouped, each with a line that says what it means, and read back with every mistake named."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from macurr.errors import ConfigError
from macurr.training.config.fields import Setting, settings_of
from macurr.training.config.tree import FORMAT_VERSION, TrainConfig

__all__ = ["VERSION", "check_version", "read", "refuse_older", "write"]

VERSION = "macurr_run"
"""The key of the format's version."""

_HEAD = """\
# The settings of a training run. The same run again: macurr train --config THIS_FILE --out ANOTHER_DIRECTORY
"""
_WIDTH = 110
_TUPLE = "!tuple"
_END = "...\n"
"""How PyYAML ends a text that is a single value."""


def write(config: TrainConfig) -> str:
    """The settings as YAML.

    Args:
        config: The settings.
    """
    values = config.settings()
    lines, group, part = [_HEAD + f"{VERSION}: {FORMAT_VERSION}"], "", ""
    for item in settings_of(TrainConfig):
        indent = "  " if item.part else ""
        if item.group != group:
            lines.append(f"\n# --- {item.group} ---\n")
            group = item.group
        if item.part != part:
            lines.append(f"{item.part}:")
            part = item.part
        lines.append(_comment(item, indent))
        lines.append(textwrap.indent(_entry(item, values[item.name]), indent))
    return "\n".join(lines) + "\n"


def read(text: str, where: str, *, versioned: bool = False) -> dict[str, Any]:
    """The values of settings, by their names alone.

    Args:
        text: YAML, as `write` gives it or as a person writes it: with any part of the settings.
        where: Where it came from, for errors.
        versioned: Whether the format's version must be there, as in a run's own file.

    Raises:
        ConfigError: it is no YAML, of another version, or holds a setting that does not exist or is of another type.
    """
    try:
        # The loader is a safe one: it makes plain values only.
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {_problem(error)}. Correct it.") from error
    data = {} if data is None and not versioned else data
    if not isinstance(data, dict) or (versioned and VERSION not in data):
        wanted = "Name a run's directory." if versioned else "Write one `name: value` on each line."
        raise ConfigError(f"{where} is not the configuration of a macurr run. {wanted}")
    check_version(data.pop(VERSION, FORMAT_VERSION), where)
    return _values(data, where)


def check_version(version: Any, where: str) -> None:
    """Refuse what is of another version.

    Raises:
        ConfigError: it is.
    """
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{where} is of run format {version!r}; this macurr reads format {FORMAT_VERSION}. Use the version of "
            "macurr that made the run, or start a new one."
        )


def refuse_older(file: Path) -> None:
    """Say of the settings of an older run, in JSON, that they are of another version; say nothing of other files.

    Raises:
        ConfigError: they are.
    """
    try:
        older = json.loads(file.read_text())
    except (OSError, ValueError):
        return
    if isinstance(older, dict) and VERSION in older:
        check_version(older[VERSION], str(file))


# Writing


class _Dumper(yaml.SafeDumper):
    """Keeps tuples apart from lists: an environment may ask for one or the other."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never an anchor: people read this."""
        return True


def _tuple_node(dumper: yaml.SafeDumper, value: tuple[Any, ...]) -> yaml.Node:
    return dumper.represent_sequence(_TUPLE, value, flow_style=True)


_Dumper.add_representer(tuple, _tuple_node)


def _entry(item: Setting, value: Any) -> str:
    """`name: value`, as plain types."""
    if value is not None and item.check.kind in ("real", "text"):
        # NumPy's numbers are numbers too, and an enum's words are texts.
        value = (
            int(value)
            if isinstance(value, int)
            else float(value)
            if item.check.kind == "real"
            else str(value)
        )
    elif item.check.kind in ("sizes", "names"):
        value = list(value)
    elif item.check.kind == "keywords":
        value = _plain(value)
    text = _flow(value, allow_unicode=True)
    if not text.replace("\n", "").isprintable():
        text = _flow(
            value, allow_unicode=False
        )  # what looks like a space, or like a line's end, is written as a code
    return f"{item.name}: {text.removesuffix(_END).rstrip()}"


def _flow(value: Any, *, allow_unicode: bool) -> str:
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=allow_unicode,
        width=1 << 30,
    )
    return text


def _plain(value: Any) -> Any:
    """Mappings of any class as dicts."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def _comment(item: Setting, indent: str) -> str:
    start = f"{indent}# "
    choices = f"; one of {', '.join(item.check.choices)}" if item.check.choices else ""
    text = item.help.replace(" (default:", f"{choices} (default:") if choices else item.help
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_on_hyphens=False,
        break_long_words=False,
    )


# Reading


class _Loader(yaml.SafeLoader):
    """As YAML 1.2 for numbers (1e-3 is one), and a key may stand only once."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[dict[Any, Any]]:
    made: dict[Any, Any] = {}
    yield made
    seen = [loader.construct_object(key) for key, _ in node.value]
    for place, key in enumerate(seen):
        if key in seen[:place]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{key!r} stands there twice", node.value[place][0].start_mark
            )
    made.update(loader.construct_mapping(node, deep=True))


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor(_TUPLE, _sequence)
for _reader in (_Loader, _Dumper):  # what is read as a number is quoted where it is a text
    _reader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+"),
        list("-+.0123456789"),
    )


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, and where."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    line = f" in line {mark.line + 1}" if mark is not None else ""
    return f"{problem or ' '.join(str(error).split())}{line}"


def _values(data: Mapping[Any, Any], where: str) -> dict[str, Any]:
    known = {(item.part, item.name): item for item in settings_of(TrainConfig)}
    parts = {part for part, _ in known if part}
    found: dict[tuple[str, Any], Any] = {}
    for key, value in data.items():
        if key in parts:
            found.update({(key, name): below for name, below in _section(key, value, where).items()})
        else:
            found["", key] = value
    strangers = [_stranger(part, name, known) for part, name in found if (part, name) not in known]
    if strangers:
        raise ConfigError(
            f"{where} has settings that do not exist: {'; '.join(strangers)}. Correct or remove them."
        )
    return {name: _value(known[part, name], value, where) for (part, name), value in found.items()}


def _section(part: str, value: Any, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{where} has {part}: {value!r}, where settings by name are wanted. Write them indented below `{part}:`."
        )
    return value


def _stranger(part: str, name: Any, known: Mapping[tuple[str, str], Setting]) -> str:
    """A name that there is not, with the nearest that there is."""
    shown = f"{part}.{name}" if part else f"{name}"
    homes = {each: home for home, each in known}
    if name in homes:
        return f"{shown} (it stands {f'below `{homes[name]}:`' if homes[name] else 'at the top level'})"
    # Siblings are nearer than names of other parts.
    siblings = {each: each for home, each in known if home == part}
    others = {each: f"{home}.{each}" if home else each for each, home in homes.items()}
    for names in (siblings, {home: home for home in homes.values() if home} if not part else {}, others):
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.7)
        if near:
            return f"{shown} (did you mean {names[near[0]]}?)"
    return shown


def _value(item: Setting, value: Any, where: str) -> Any:
    """A value as its setting wants it.

    Raises:
        ConfigError: it is of another type, or out of range.
    """
    value = item.check.taken(value)
    if not item.check.holds(value):
        raise ConfigError(f"{where}: {item.name}={value!r} cannot be used: it must be {item.check.wanted}.")
    return value
