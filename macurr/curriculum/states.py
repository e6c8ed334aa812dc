"""What the state of a curriculum is, and the check that comes before one is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from macurr.errors import StateError

__all__ = ["State", "check_state"]

State = dict[str, Any]
"""A nest of dicts with string keys, lists, numbers, strings, booleans, None and NumPy arrays."""


def check_state(state: Mapping[str, Any], type_name: str, keys: set[str]) -> None:
    """Check that a state was made by `type_name` and holds `keys`, before anything is written.

    Raises:
        StateError: it was not, or it does not.
    """
    if not isinstance(state, Mapping) or state.get("type") != type_name:
        found = state.get("type") if isinstance(state, Mapping) else type(state).__name__
        raise StateError(f"This state belongs to {found}; {type_name} needs one of its own kind.")
    missing = sorted(keys - set(state))
    if missing:
        raise StateError(
            f"The state of {type_name} lacks {missing}. It was saved by another version or cut short."
        )
