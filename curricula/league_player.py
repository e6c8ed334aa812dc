"""A player of a league: what it knows of the others, and when it is frozen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula.opponents import LEARNER, OpponentCurriculum
from macurr.curricula.self_play import check_chance
from macurr.curriculum import check_state
from macurr.errors import PoolError, StateError, UsageError
from macurr.opponents import AgentPool, PlayerKey, pfsp_weights

__all__ = ["MAIN", "LeaguePlayer", "Member", "Shares", "even"]

MAIN = "main"
"""The role of main agents."""

Shares = dict[int, float]
"""Probabilities by snapshot; those of the others are 0."""


class Member(NamedTuple):
    """What a snapshot is in the league; it stands under "league" in the snapshot's metadata.

    Attributes:
        player: The player whose copy it is; "" for one that is nobody's, such as the initial policy.
        role: "main", "main_exploiter", "league_exploiter", or "" where it is nobody's.
        side: The side that it plays in an asymmetric game; "" in a symmetric one.
        frozen: Whether it is there to stay; else it stands for the player as it is now, until the next copy.
    """

    player: str = ""
    role: str = ""
    side: str = ""
    frozen: bool = True


class LeaguePlayer(OpponentCurriculum):
    """One live policy of a league: it chooses this policy's opponents, and says when to freeze it.

    Several players share a pool, and nothing else: what a player has to know of the others is in their snapshots'
    metadata, so every player can have a host, environments and a process of its own. Another player "as it is now" is
    its newest snapshot. What the learner did against a main agent goes over to that one's newer snapshots, which are
    copies of it.

    Made by `macurr.curricula.League`. Subclasses define `shares` and `targets`.

    Args:
        pool: The league's pool.
        name: The player.
        side: The side that it plays; "" in a symmetric game.
        opposing: The side of its opponents.
        min_steps: Environment steps from one freeze to the next, at least, and after which it is frozen ...
        win_rate: ... if it beats each of its targets more often than that,
        max_steps: and in any case after that many.
        reset_prob: How likely the live policy is to begin anew once it has been frozen.
        options: The keywords of `OpponentCurriculum`.

    Raises:
        UsageError: an option is out of range.

    Attributes:
        name: The player.
    """

    role = ""

    def __init__(
        self,
        pool: AgentPool,
        name: str,
        *,
        side: str = "",
        opposing: str = "",
        min_steps: int = 2_000_000,
        max_steps: int = 4_000_000,
        win_rate: float = 0.7,
        reset_prob: float = 0.0,
        **options: Any,
    ) -> None:
        if not 0 <= min_steps <= max_steps:
            raise UsageError(f"0 <= min_steps <= max_steps is wanted; got {min_steps} and {max_steps}.")
        check_chance("win_rate", win_rate)
        check_chance("reset_prob", reset_prob)
        super().__init__(pool, **options)
        self.name, self.side, self.opposing = name, side, opposing
        self.min_steps, self.max_steps = min_steps, max_steps
        self.win_rate, self.reset_prob = win_rate, reset_prob
        self._members: dict[int, Member] = {}
        self._steps = 0
        self._resets = self._draw_reset()

    # What subclasses define

    @abstractmethod
    def shares(self) -> Shares:
        """How likely each opponent is; empty where there is none of the wanted kind."""

    @abstractmethod
    def targets(self) -> list[int]:
        """The snapshots that must be beaten before the player is frozen."""

    # When to freeze

    @property
    def freeze_due(self) -> bool:
        """Whether it is time to freeze the live policy."""
        self._notice(self.pool.ids)
        if self._steps < self.min_steps:
            return False
        targets = self.targets()
        beaten = bool(targets) and self.win_rates(targets).min() > self.win_rate
        return beaten or self._steps >= self.max_steps

    @property
    def resets(self) -> bool:
        """Whether the live policy begins anew after the next freeze: drawn beforehand, so that all can know."""
        return self._resets

    # Opponents

    @override
    def probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """How likely each opponent is at the next draw.

        Raises:
            UsageError: nobody in the pool plays the other side.
        """
        self._notice(ids)
        place = {snapshot: i for i, snapshot in enumerate(ids)}
        shares = self.shares() or even(self.frozen()) or even(self.live())
        if not shares:
            raise UsageError(
                f"{self.name!r} has no opponent: nobody in {self.pool!r} plays the side {self.opposing!r}. Add a "
                "policy for each side by League.begin(parameters)."
            )
        weights = np.zeros(len(ids))
        for snapshot, share in shares.items():
            weights[place[snapshot]] = share
        result: NDArray[np.float64] = weights / weights.sum()
        return result

    def frozen(self, player: str | None = None, role: str | None = None) -> list[int]:
        """The opposing frozen snapshots, oldest first: all, a player's, or those of a role."""
        return [
            snapshot
            for snapshot, member in self._members.items()
            if member.frozen
            and member.side == self.opposing
            and player in (None, member.player)
            and role in (None, member.role)
        ]

    def live(self, role: str = MAIN) -> list[int]:
        """The newest snapshot of each opposing player of a role."""
        newest = {
            member.player: snapshot
            for snapshot, member in self._members.items()
            if member.side == self.opposing and member.role == role
        }
        return list(newest.values())

    def prioritized(
        self, snapshots: Sequence[int], weighting: str | Callable[[NDArray[np.float64]], ArrayLike]
    ) -> Shares:
        """Prioritised fictitious self-play among some snapshots (see `macurr.opponents.pfsp_weights`)."""
        if not snapshots:
            return {}
        weights = pfsp_weights(self.win_rates(snapshots), weighting)
        return dict(zip(snapshots, weights.tolist(), strict=True))

    # Updates

    @override
    def update_on_episode(
        self, episode_return: Any, length: int, task: Any, progress: Any, env_id: int | None = None
    ) -> None:
        self._notice(self.pool.ids)
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self._steps += length

    @override
    def metrics(self) -> dict[str, float]:
        due = self.freeze_due
        return {
            **super().metrics(),
            "freeze_due": float(due),
            "reset_due": float(due and self._resets),
            "steps_since_freeze": float(self._steps),
        }

    @override
    def state_dict(self) -> dict[str, Any]:
        self._notice(self.pool.ids)
        return {
            **super().state_dict(),
            "name": self.name,
            "known": np.array(list(self._members), dtype=np.int64),
            "steps": self._steps,
            "resets": self._resets,
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, type(self).__name__, {"name", "known", "steps", "resets"})
        known, steps, resets = np.asarray(state["known"]), state["steps"], state["resets"]
        if state["name"] != self.name:
            raise StateError(f"This is the state of the player {state['name']!r}; this one is {self.name!r}.")
        if known.ndim != 1 or known.dtype.kind not in "iu":
            raise StateError(f"The snapshots known to {self.name!r} are ids; this state has {known!r}.")
        if type(steps) is not int or steps < 0 or type(resets) is not bool:
            raise StateError(
                f"The state of {self.name!r} needs steps of 0 or more, and whether it resets; got {steps!r} and "
                f"{resets!r}."
            )
        present = set(self.pool.ids)
        members = {snapshot: self._read(snapshot) for snapshot in known.tolist() if snapshot in present}
        super().load_state_dict(state)
        self._members, self._steps, self._resets = members, steps, resets

    @override
    def _record(self, row: PlayerKey, column: PlayerKey, outcome: float) -> None:
        self._notice(self.pool.ids)
        super()._record(self._current(row), self._current(column), outcome)

    # Who is who

    def _current(self, key: PlayerKey) -> PlayerKey:
        """A copy that was made to be replaced stands for its player, who goes by the newest snapshot."""
        member = self._members.get(key) if isinstance(key, int) else None
        if member is None or member.frozen:
            return key
        return self._newest(member.player)

    def _newest(self, player: str) -> int:
        return max(snapshot for snapshot, member in self._members.items() if member.player == player)

    def _notice(self, ids: Sequence[int]) -> None:
        if len(ids) == len(self._members) and all(snapshot in self._members for snapshot in ids):
            return
        for snapshot in sorted(set(ids) - set(self._members)):
            self._meet(snapshot, self._read(snapshot))
        for snapshot in set(self._members) - set(ids):
            del self._members[snapshot]
        # Writers may be slow: a lower id may come to light after a higher one.
        self._members = dict(sorted(self._members.items()))

    def _meet(self, snapshot: int, member: Member) -> None:
        if member.player == self.name:
            if member.frozen:
                self._frozen()
        elif member.role == MAIN and any(member.player == other.player for other in self._members.values()):
            # Exploiters begin anew, so a copy of theirs need not be of the one before.
            self.payoffs.inherit(snapshot, self._newest(member.player))
        self._members[snapshot] = member

    def _frozen(self) -> None:
        self._steps = 0
        if self._resets:
            # The policy that begins anew has beaten nobody yet.
            self.payoffs.forget(LEARNER)
        self._resets = self._draw_reset()

    def _draw_reset(self) -> bool:
        # Drawn only where it is open, so that players without resets have the stream of the other curricula.
        return self.reset_prob == 1 or (self.reset_prob > 0 and bool(self.rng.random() < self.reset_prob))

    def _read(self, snapshot: int) -> Member:
        found = self.pool.metadata(snapshot).get("league", {"side": self.opposing})
        try:
            return Member(**found)
        except TypeError as error:
            raise PoolError(
                f"Snapshot {snapshot} is marked as a member of a league by {found!r}, which no League has written. Use "
                "a pool of the league's own."
            ) from error


def even(snapshots: Sequence[int]) -> Shares:
    """The same share for each."""
    return dict.fromkeys(snapshots, 1.0 / max(1, len(snapshots)))
