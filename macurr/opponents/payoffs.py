"""Who beats whom: wins, draws and losses between players, decayed or windowed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macurr.errors import StateError, TaskError, UsageError

__all__ = ["Counts", "Payoffs", "PlayerKey"]

PlayerKey = int | str | tuple[int | str, ...]
"""A snapshot's id, a name such as "learner", or a role with either: `("attacker", 3)`."""


_NUMBERS = (int, float, np.number, np.bool_)


class Counts(NamedTuple):
    """Results of one player against another, decayed: not whole numbers in general."""

    wins: float
    draws: float
    losses: float

    @property
    def games(self) -> float:
        """The number of results, decayed."""
        return self.wins + self.draws + self.losses

    @property
    def win_rate(self) -> float:
        """(wins + draws / 2) / games; 0.5 before any game."""
        return (self.wins + self.draws / 2) / self.games if self.games > 0 else 0.5


class Payoffs:
    """Wins, draws and losses for any pair of players.

    Players are named by keys: snapshot ids, a name for the live policy, or tuples that hold a role where the game
    is asymmetric and a snapshot plays every role differently. They need no registration. A result of (row, column)
    is at once the opposite result of (column, row).

    As in AlphaStar's payoff (Vinyals et al. 2019), a pair's counters are multiplied by `decay` before each of its
    results, so that old results of a policy that has moved on lose their say.

    Args:
        decay: What is kept of a pair's counters at each new result, in (0, 1]; 1 keeps everything.
        window: How many latest results of a pair to count; None counts all.

    Raises:
        UsageError: `decay` or `window` is out of range.

    Example:
        >>> payoffs = Payoffs(decay=1.0)
        >>> payoffs.record("learner", 7, +1)
        >>> payoffs.record("learner", 7, 0)
        >>> payoffs.win_rate("learner", 7), payoffs.win_rate(7, "learner"), payoffs.win_rate("learner", 8)
        (0.75, 0.25, 0.5)
    """

    def __init__(self, decay: float = 0.99, window: int | None = None) -> None:
        if not 0 < decay <= 1 or (window is not None and window < 1):
            raise UsageError(
                f"decay must be in (0, 1] and window None or positive; got decay={decay}, window={window}."
            )
        self.decay = decay
        self.window = window
        self._slots: dict[PlayerKey, int] = {}
        self._free: list[int] = []
        # A player's wins, draws and losses against the players of all slots, shape (3, room): only for those with
        # results, and only as wide as they need, because most snapshots meet nobody but the live policy.
        self._rows: dict[int, NDArray[np.float64]] = {}
        self._recent: dict[tuple[int, int], deque[int]] = {}
        # The player that `rates` was last asked about, and its win rates.
        self._latest: tuple[PlayerKey, dict[PlayerKey, float]] | None = None

    # Results

    def record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        """Count one game in.

        Args:
            row: A player.
            column: Its opponent.
            outcome: Positive where `row` won, 0 for a draw, negative where `column` won.

        Raises:
            TaskError: the outcome is not a number, a key cannot name a player, or both are the same.
        """
        row, column = as_key(row), as_key(column)
        if row == column:
            raise TaskError(
                f"{row!r} cannot play against itself. Where its two seats are different roles, give each a key "
                "of its own, such as ('attacker', 3) and ('defender', 3)."
            )
        if not isinstance(outcome, _NUMBERS) or math.isnan(outcome):
            raise TaskError(f"The outcome of {row!r} against {column!r} is {outcome!r}. Pass +1, 0 or -1.")
        sign = int(outcome > 0) - int(outcome < 0)
        i, j = self._slot(row), self._slot(column)
        oldest = self._push(i, j, sign)
        for_row = self._count(i, j, sign, oldest)
        for_column = self._count(j, i, -sign, None if oldest is None else -oldest)
        if self._latest is not None:
            player, rates = self._latest
            if player == row:
                rates[column] = for_row.win_rate
            elif player == column:
                rates[row] = for_column.win_rate

    def forget(self, key: PlayerKey) -> None:
        """Drop all results of a player, of a snapshot that has left the pool, say; unknown players are fine."""
        slot = self._slots.pop(as_key(key), None)
        if slot is None:
            return
        self._latest = None
        self._rows.pop(slot, None)
        for row in self._rows.values():
            row[:, slot : slot + 1] = 0.0
        self._recent = {pair: results for pair, results in self._recent.items() if slot not in pair}
        self._free.append(slot)

    def inherit(self, child: PlayerKey, parent: PlayerKey) -> None:
        """Give `child` the results of `parent`, of which it is a frozen copy, in place of any of its own.

        Raises:
            TaskError: a key cannot name a player, or both are the same.
        """
        child, parent = as_key(child), as_key(parent)
        if child == parent:
            raise TaskError(f"{child!r} cannot inherit from itself.")
        self.forget(child)
        if parent not in self._slots:
            return
        self._latest = None
        i, j = self._slots[parent], self._slot(child)
        row = self._row(i).copy()
        for column in np.flatnonzero(row.any(axis=0)).tolist():
            self._set(j, column, row[:, column], self._results(i, column))

    # Questions

    @property
    def keys(self) -> list[PlayerKey]:
        """Every player with a result, in order of appearance."""
        return list(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __repr__(self) -> str:
        return f"Payoffs(decay={self.decay}, window={self.window}; {len(self)} players)"

    def counts(self, row: PlayerKey, column: PlayerKey) -> Counts:
        """Wins, draws and losses of `row` against `column`."""
        return Counts(*map(float, self._columns(row, [column])[:, 0]))

    def win_rate(self, row: PlayerKey, column: PlayerKey) -> float:
        """(wins + draws / 2) / games of `row` against `column`; 0.5 before any game."""
        return self.counts(row, column).win_rate

    def win_rates(self, row: PlayerKey, columns: Sequence[PlayerKey]) -> NDArray[np.float64]:
        """`win_rate` of one player against each of `columns`, shape (len(columns),)."""
        return _win_rates(self._columns(row, columns))

    def rates(self, row: PlayerKey, columns: Sequence[PlayerKey]) -> list[float]:
        """`win_rates` as plain numbers: quicker for few players, where one is asked about again and again."""
        latest = self._latest
        if latest is None or latest[0] != row:
            known = dict(zip(self._slots, self.win_rates(row, list(self._slots)).tolist(), strict=True))
            latest = self._latest = (row, known)
        find = latest[1].get
        return [find(column, 0.5) for column in columns]

    def games(self, row: PlayerKey, columns: Sequence[PlayerKey]) -> NDArray[np.float64]:
        """The number of results (decayed) of one player against each of `columns`, shape (len(columns),)."""
        total: NDArray[np.float64] = self._columns(row, columns).sum(axis=0)
        return total

    def matrix(self, keys: Sequence[PlayerKey]) -> NDArray[np.float64]:
        """Win rates of each of `keys` (rows) against each (columns); 0.5 on the diagonal."""
        return np.array([self.win_rates(key, keys) for key in keys]).reshape(len(keys), len(keys))

    def points(self, keys: Sequence[PlayerKey]) -> NDArray[np.float64]:
        """Wins plus half the draws of each of `keys` (rows) against each (columns): what ratings are fitted to."""
        counts = np.array([self._columns(key, keys) for key in keys]).reshape(len(keys), 3, len(keys))
        total: NDArray[np.float64] = counts[:, 0] + counts[:, 1] / 2
        return total

    def interval(self, row: PlayerKey, column: PlayerKey, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of `intervals` for one pair."""
        low, high = self.intervals(row, [column], confidence)[0]
        return float(low), float(high)

    def intervals(
        self, row: PlayerKey, columns: Sequence[PlayerKey], confidence: float = 0.95
    ) -> NDArray[np.float64]:
        """Confidence intervals of the win rates against each of `columns`.

        Wilson's score interval (1927) with draws as half wins, which errs to the wide side for drawish games.
        Decayed counts stand for as many games as they sum to.

        Args:
            row: A player.
            columns: Its opponents.
            confidence: The coverage, in (0, 1).

        Returns:
            Lower and upper bounds, shape (len(columns), 2); (0, 1) before any game.

        Raises:
            UsageError: `confidence` is out of range.
        """
        if not 0 < confidence < 1:
            raise UsageError(f"confidence must be between 0 and 1; got {confidence}.")
        z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
        counts = self._columns(row, columns)
        n, p = counts.sum(axis=0), _win_rates(counts)
        # Both sides multiplied by n, so that no games at all give (0, 1) without a special case.
        centre = (p * n + z2 / 2) / (n + z2)
        reach = np.sqrt(z2 * (p * (1 - p) * n + z2 / 4)) / (n + z2)
        bounds: NDArray[np.float64] = np.clip(np.stack([centre - reach, centre + reach], axis=1), 0.0, 1.0)
        return bounds

    # State

    def state_dict(self) -> dict[str, Any]:
        """All results, as plain values and arrays."""
        slots = list(self._slots.values())
        place = {slot: i for i, slot in enumerate(slots)}
        pairs = [
            (i, place[j])
            for i, slot in enumerate(slots)
            for j in np.flatnonzero(self._row(slot).any(axis=0)).tolist()
            if place[j] > i
        ]
        recent = [self._results(slots[i], slots[j]) for i, j in pairs] if self.window is not None else []
        return {
            "keys": [list(key) if isinstance(key, tuple) else key for key in self._slots],
            "pairs": np.array(pairs, dtype=np.int64).reshape(-1, 2),
            "counts": np.array([self._row(slots[i])[:, slots[j]] for i, j in pairs]).reshape(-1, 3),
            "recent": [np.array(results, dtype=np.int8) for results in recent],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: the state is not one of `Payoffs`, or of a window where this has none (or the other way
                round); nothing is changed.
        """
        fresh = Payoffs(self.decay, self.window)
        try:
            fresh._fill(state)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise StateError(f"This is no state of Payoffs with window={self.window}: {error}.") from error
        self._slots, self._free = fresh._slots, fresh._free
        self._rows, self._recent = fresh._rows, fresh._recent
        self._latest = None

    def _fill(self, state: Mapping[str, Any]) -> None:
        keys = [as_key(tuple(key) if isinstance(key, list) else key) for key in state["keys"]]
        pairs, counts, recent = np.asarray(state["pairs"]), np.asarray(state["counts"]), state["recent"]
        if len(set(keys)) != len(keys) or counts.shape != (len(pairs), 3) or pairs.shape != (len(pairs), 2):
            raise StateError("its keys, pairs and counts do not fit together")
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise StateError("a count is negative or not finite")
        if len(recent) != (0 if self.window is None else len(pairs)):
            raise StateError(f"it holds the latest results of {len(recent)} pairs, for {len(pairs)} pairs")
        if not ((pairs >= 0).all() and (pairs < len(keys)).all() and (pairs[:, 0] < pairs[:, 1]).all()):
            raise StateError("a pair names players that are not among its keys")
        self._slots = {key: slot for slot, key in enumerate(keys)}
        for n, (i, j) in enumerate(pairs.tolist()):
            self._set(i, j, counts[n], [int(result) for result in recent[n]] if recent else [])

    # Storage

    def _slot(self, key: PlayerKey) -> int:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._free.pop() if self._free else len(self._slots)
        return slot

    def _row(self, slot: int) -> NDArray[np.float64]:
        row = self._rows.get(slot)
        return np.zeros((3, 0)) if row is None else row

    def _room(self, slot: int, column: int) -> NDArray[np.float64]:
        row = self._row(slot)
        if column >= row.shape[1]:
            grown = np.zeros((3, max(8, 2 * column)))
            grown[:, : row.shape[1]] = row
            row = self._rows[slot] = grown
        return row

    def _count(self, slot: int, column: int, sign: int, oldest: int | None) -> Counts:
        row = self._room(slot, column)
        counts = [
            count * self.decay for count in row[:, column].tolist()
        ]  # quicker than NumPy for three numbers
        counts[1 - sign] += 1.0
        if oldest is not None and self.window is not None:
            counts[1 - oldest] = max(0.0, counts[1 - oldest] - self.decay**self.window)
        row[0, column], row[1, column], row[2, column] = counts
        return Counts(*counts)

    def _push(self, i: int, j: int, sign: int) -> int | None:
        """Remember the latest results; returns the one that leaves the window, from the side of `i`."""
        if self.window is None:
            return None
        flip = 1 if i < j else -1
        results = self._recent.setdefault((min(i, j), max(i, j)), deque(maxlen=self.window))
        oldest = flip * results[0] if len(results) == self.window else None
        results.append(flip * sign)
        return oldest

    def _results(self, i: int, j: int) -> list[int]:
        """The latest results of a pair, from the side of `i`; none where no window is kept."""
        results = self._recent.get((min(i, j), max(i, j)), ())
        return [result if i < j else -result for result in results]

    def _set(self, i: int, j: int, counts: NDArray[np.float64], results: Iterable[int]) -> None:
        """Set a pair's counters and latest results, from the side of `i`."""
        self._room(i, j)[:, j] = counts
        self._room(j, i)[:, i] = counts[::-1]
        if self.window is not None:
            flip = 1 if i < j else -1
            self._recent[min(i, j), max(i, j)] = deque((flip * r for r in results), maxlen=self.window)

    def _columns(self, row: PlayerKey, columns: Sequence[PlayerKey]) -> NDArray[np.float64]:
        """Wins, draws and losses of a player against each of `columns`, shape (3, len(columns))."""
        # Not through as_key: NumPy's integers are found as they are, and this runs over whole pools.
        find = self._slots.get
        counts = self._row(find(row, -1))
        where = np.array([find(key, -1) for key in columns], dtype=np.intp)
        known = (where >= 0) & (where < counts.shape[1])
        found = np.zeros((3, len(where)))
        found[:, known] = counts[:, where[known]]
        return found


def _win_rates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    games = counts.sum(axis=0)
    points = counts[0] + counts[1] / 2
    rates = np.full(len(games), 0.5)
    np.divide(points, games, out=rates, where=games > 0)
    return rates


def as_key(key: Any) -> PlayerKey:
    """A player's key in its plain form.

    Raises:
        TaskError: it cannot name a player.
    """
    if type(key) is int or type(key) is str:
        return key
    if isinstance(key, tuple):
        return tuple(_part(part, key) for part in key)
    return _part(key, key)


def _part(part: Any, key: Any) -> int | str:
    if isinstance(part, str):
        return part
    if isinstance(part, int | np.integer) and not isinstance(part, bool):
        return int(part)
    raise TaskError(
        f"{key!r} cannot name a player. Use a snapshot's id, a name, or a tuple of those: a role and an id."
    )
