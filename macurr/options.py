"""The options of a curriculum that may change while it runs: by hand, from afar, or by population-based training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from typing_extensions import override

from macurr.errors import StateError, UsageError

__all__ = ["Changeable", "OptionsOfParts"]


class Changeable:
    """What of a curriculum may change while it runs.

    A curriculum names such options by `get_options`; attributes of the same names are then set by `set_options`,
    unless `_apply_options` does it otherwise, and `check_options` refuses values that cannot be. What was changed
    is part of the state, so that a resumed run goes on with it.

    Example:
        >>> from macurr import DiscreteTaskSpace
        >>> from macurr.curricula import PrioritizedLevelReplay
        >>> plr = PrioritizedLevelReplay(DiscreteTaskSpace(3), temperature=1.0)
        >>> plr.set_options(temperature=0.5)
        >>> plr.get_options()["temperature"]
        0.5
    """

    _options_before: dict[str, Any]
    """The values that options had before they were changed first, by name."""

    def get_options(self) -> dict[str, Any]:
        """The options that may change, with their present values: numbers, strings and booleans."""
        return {}

    def tunable_options(self) -> dict[str, tuple[float, float]]:
        """Those of `get_options` that population-based training may tune, with their least and greatest values."""
        return {}

    def check_options(self, **options: Any) -> None:
        """Check that `set_options` would succeed.

        Raises:
            UsageError: there is no such option, or a value is out of its range, as for the constructor.
        """
        known = self.get_options()
        strangers = sorted(set(options) - set(known))
        if strangers:
            names = ", ".join(known) or "none"
            raise UsageError(
                f"{type(self).__name__} has no options {strangers} that may change while it runs; it has: {names}. "
                "Give the others to the constructor."
            )

    def set_options(self, **options: Any) -> None:
        """Change options from the next draw on. The others, and everything learned, stay as they are.

        Args:
            options: New values by name; of a curriculum made of others, by part and name: `{"env/temperature": 0.5}`.

        Raises:
            UsageError: as for `check_options`; nothing is changed.
        """
        plain = {name: _plain(value) for name, value in options.items()}
        self.check_options(**plain)
        present = self.get_options()
        changed = {name: value for name, value in plain.items() if present[name] != value}
        if changed:
            self._options_before = {**{name: present[name] for name in changed}, **self._options_before}
            self._apply_options(changed)

    def _apply_options(self, options: Mapping[str, Any]) -> None:
        """Make the changes that `check_options` has accepted."""
        for name, value in options.items():
            setattr(self, name, value)

    @contextmanager
    def _with_options(self, metrics: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Check a message's "options", hand out the rest of it, and set them once the rest has been applied.

        Raises:
            UsageError: the options cannot be set; nothing is changed.
        """
        options = metrics.get("options")
        if options is None:
            yield metrics
            return
        if not isinstance(options, Mapping):
            raise UsageError(f"'options' is a mapping from names to values; got {options!r}.")
        self.check_options(**options)
        yield {key: value for key, value in metrics.items() if key != "options"}
        self.set_options(**options)

    # State

    def _options_state(self) -> dict[str, Any]:
        """For `state_dict`: the options that were changed, where there are any that may be."""
        present = self.get_options()
        return {"options": {name: present[name] for name in self._options_before}} if present else {}

    def _options_in(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The options to set for a state: those it has changed, and otherwise those of the constructor.

        Raises:
            StateError: the state has none, or some that cannot be.
        """
        if not self.get_options():
            return {}
        changed = state["options"]
        if not isinstance(changed, Mapping):
            raise StateError(f"A state's options are a mapping from names to values; got {changed!r}.")
        wanted = {**self._options_before, **changed}
        try:
            self.check_options(**wanted)
        except (UsageError, TypeError) as error:
            raise StateError(f"The state's options do not fit {type(self).__name__}: {error}") from error
        return wanted

    def _load_options(self, wanted: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Set what `_options_in` has found."""
        if wanted:
            given = {**self.get_options(), **self._options_before}
            self.set_options(**wanted)
            self._options_before = {name: given[name] for name in state["options"]}


class OptionsOfParts(Changeable):
    """A curriculum made of others has their options, each as "part/name". The parts keep them in their states."""

    @abstractmethod
    def _option_parts(self) -> Mapping[str, Changeable]:
        """The parts by name."""

    @override
    def get_options(self) -> dict[str, Any]:
        return {
            f"{part}/{name}": value
            for part, own in self._option_parts().items()
            for name, value in own.get_options().items()
        }

    @override
    def tunable_options(self) -> dict[str, tuple[float, float]]:
        return {
            f"{part}/{name}": bounds
            for part, own in self._option_parts().items()
            for name, bounds in own.tunable_options().items()
        }

    @override
    def check_options(self, **options: Any) -> None:
        super().check_options(**options)
        for part, own in self._by_part(options):
            part.check_options(**own)

    @override
    def set_options(self, **options: Any) -> None:
        self.check_options(**options)
        for part, own in self._by_part(options):
            part.set_options(**own)

    def _by_part(self, options: Mapping[str, Any]) -> list[tuple[Changeable, dict[str, Any]]]:
        return [
            (
                part,
                {key.removeprefix(f"{name}/"): options[key] for key in options if key.startswith(f"{name}/")},
            )
            for name, part in self._option_parts().items()
        ]

    @override
    def _options_state(self) -> dict[str, Any]:
        return {}

    @override
    def _options_in(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
