"""Which snapshots a full pool lets go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from macurr.errors import PoolError, UsageError

__all__ = ["Keep", "Strength", "check_policy", "choose_victims", "strength_of"]

Keep = Literal["newest", "spread", "strongest"]

Strength = str | Callable[[int, Mapping[str, Any]], float]
"""A metadata key whose value is the strength, or a function of a snapshot's id and metadata."""


def check_policy(capacity: int | None, keep: str, strength: Strength | None) -> None:
    """Check the options of a pool's capacity.

    Raises:
        UsageError: they are out of range or do not go together.
    """
    if capacity is not None and capacity < 1:
        raise UsageError(f"A pool's capacity must be None or at least 1; got {capacity}.")
    if keep not in ("newest", "spread", "strongest"):
        raise UsageError(f"keep must be 'newest', 'spread' or 'strongest'; got {keep!r}.")
    if (keep == "strongest") != (strength is not None):
        raise UsageError(
            "keep='strongest' and strength= go together: strength is a metadata key given to every add(), or a "
            "function of id and metadata."
        )


def choose_victims(
    ids: Sequence[int], excess: int, keep: Keep, strength: Callable[[int], float] | None = None
) -> list[int]:
    """The snapshots to drop so that one more fits in.

    Args:
        ids: The snapshots there are, oldest first; the one to come is not among them and is safe.
        excess: How many to drop.
        keep: "newest" drops the oldest. "spread" thins out evenly: it drops whichever leaves the smallest gap in
            age, and the very first stays. "strongest" drops the weakest, of equals the oldest.
        strength: A snapshot's strength, for "strongest".

    Returns:
        Ids, `excess` of them where there are as many.
    """
    if excess <= 0:
        return []
    if keep == "spread":
        return _most_crowded(ids, excess)
    if keep == "strongest" and strength is not None:
        values = {snapshot: strength(snapshot) for snapshot in ids}
        return sorted(ids, key=lambda snapshot: (values[snapshot], snapshot))[:excess]
    return list(ids[:excess])


def strength_of(strength: Strength, snapshot: int, metadata: Mapping[str, Any]) -> float:
    """The strength of a snapshot.

    Raises:
        PoolError: it has none, or it is not a finite number.
    """
    value = metadata.get(strength) if isinstance(strength, str) else strength(snapshot, metadata)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PoolError(
            f"Snapshot {snapshot} has strength {value!r} (by {strength!r}), which must be a finite number. "
            "Give every add() the metadata that strength asks for."
        )
    return float(value)


def _most_crowded(ids: Sequence[int], excess: int) -> list[int]:
    kept = [*ids, ids[-1] + 1]
    victims = []
    for _ in range(min(excess, len(ids))):
        # The last stands for the snapshot to come; with only the first left, that one has to go.
        inner = range(1, len(kept) - 1) or range(1)
        place = min(inner, key=lambda i: kept[i + 1] - kept[i - 1] if i else 0)
        victims.append(kept.pop(place))
    return victims
