"""Random generators as plain state: what a checkpoint needs, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from macurr.errors import StateError

__all__ = ["generator_state", "load_generator_state"]


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a generator as a nest of plain values; the bit generator's name is among them."""
    return {key: _plain(value) for key, value in rng.bit_generator.state.items()}


def load_generator_state(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Set a generator to a state from `generator_state`.

    Raises:
        StateError: the state belongs to another bit generator or is damaged; the generator is unchanged.
    """
    check_generator_state(rng, state)
    rng.bit_generator.state = dict(state)


def check_generator_state(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Check that `load_generator_state` would succeed.

    Raises:
        StateError: it would not.
    """
    try:
        type(rng.bit_generator)().state = dict(state)
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        name = type(rng.bit_generator).__name__
        raise StateError(f"This is no state of a {name} random generator: {error}.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value
