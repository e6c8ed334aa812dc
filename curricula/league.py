"""The league: its players, their snapshots in the pool, and when to freeze them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from macurr.curricula.league_player import MAIN, LeaguePlayer, Member
from macurr.curricula.league_roles import LeagueExploiter, MainAgent, MainExploiter
from macurr.curriculum import Curriculum, check_state
from macurr.errors import MacurrError, StateError, UsageError
from macurr.opponents import AgentPool
from macurr.opponents.snapshot_files import Parameters

__all__ = ["League", "LeagueAdvice"]

_KINDS: Mapping[str, type[LeaguePlayer]] = {
    kind.role: kind for kind in (MainAgent, MainExploiter, LeagueExploiter)
}


class LeagueAdvice(NamedTuple):
    """What a learner should do with its live policy now.

    Attributes:
        freeze: Put a frozen copy of it into the league.
        reset: And then begin anew, from the initial policy.
    """

    freeze: bool
    reset: bool


class League:
    """A population of main agents, main exploiters and league exploiters over one pool (Vinyals et al. 2019).

    Every player is a curriculum of its own, with an environment and a learner of its own: `MainAgent`,
    `MainExploiter` or `LeagueExploiter`. They are called "main_0", "main_exploiter_0", "league_exploiter_0" and so
    on; with sides, "red/main_0". The league itself makes them and names their snapshots; it keeps nothing that is not
    in the pool, so learners in several processes can each make the same league over the same pool.

    A learner's round: train the live policy of `league["main_0"]`; `publish` it now and then, so that others meet it
    as it is; ask `advice`; if it says so, `freeze` a copy first, and only then begin anew.

    Args:
        pool: The snapshots.
        main_agents: How many main agents (on each side).
        main_exploiters: How many main exploiters (on each side).
        league_exploiters: How many league exploiters (on each side).
        sides: The two sides of an asymmetric game, each with a population of its own and the other's as opponents;
            none for a symmetric game.
        live_copies: How many published copies of a player stay in the pool, so that episodes that were given one can
            begin.
        seed: Seed or generator for all players' draws.
        role_options: Keywords of the players by role: `{"main": {"pfsp_share": 0.6}, "league_exploiter": {...}}`.
        options: The keywords of `LeaguePlayer` (`min_steps`, `max_steps`, `win_rate`, ...), for all players.

    Raises:
        UsageError: there is no main agent, there are not two sides, or an option is unknown or out of range.

    Attributes:
        players: The players by name.

    Example:
        >>> import tempfile
        >>> league = League(AgentPool(tempfile.mkdtemp()), league_exploiters=2, seed=0)
        >>> list(league.players)
        ['main_0', 'main_exploiter_0', 'league_exploiter_0', 'league_exploiter_1']
        >>> league.begin({"w": np.zeros(3)})
        0
        >>> league["league_exploiter_0"].sample(2)
        [0, 0]
    """

    def __init__(
        self,
        pool: AgentPool,
        *,
        main_agents: int = 1,
        main_exploiters: int = 1,
        league_exploiters: int = 1,
        sides: Sequence[str] = (),
        live_copies: int = 8,
        seed: int | np.random.Generator | None = None,
        role_options: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        counts = dict(zip(_KINDS, (main_agents, main_exploiters, league_exploiters), strict=True))
        if main_agents < 1 or min(counts.values()) < 0 or live_copies < 1:
            raise UsageError(
                f"A league needs a main agent, and a copy of each that is live; got {counts} and "
                f"live_copies={live_copies}."
            )
        if isinstance(sides, str) or len(set(sides)) != len(sides) or len(sides) not in (0, 2) or "" in sides:
            raise UsageError(f"A league has two named sides, or none for a symmetric game; got {sides!r}.")
        per_role = role_options or {}
        if set(per_role) - set(_KINDS):
            raise UsageError(f"role_options are for the roles {list(_KINDS)}; got {sorted(per_role)}.")
        self.pool = pool
        self.live_copies = live_copies
        self.sides = tuple(sides)
        self.players: dict[str, LeaguePlayer] = {}
        rng = np.random.default_rng(seed)
        for side in self.sides or ("",):
            opposing = next((other for other in self.sides if other != side), "")
            for role, count in counts.items():
                own = {**options, **per_role.get(role, {}), "side": side, "opposing": opposing}
                for n in range(count):
                    name = f"{side}/{role}_{n}" if side else f"{role}_{n}"
                    self.players[name] = _KINDS[role](pool, name, seed=rng.spawn(1)[0], **own)

    def __getitem__(self, name: str) -> LeaguePlayer:
        """A player's curriculum.

        Raises:
            UsageError: there is no such player.
        """
        if name not in self.players:
            raise UsageError(f"There is no player {name!r} in this league; there are {list(self.players)}.")
        return self.players[name]

    # Snapshots

    def begin(self, parameters: Parameters, side: str = "", **metadata: Any) -> int:
        """Add a policy that is nobody's: the initial one, or a scripted one. Each side needs one at least.

        Args:
            parameters: The arrays of a snapshot.
            side: Its side, in an asymmetric game.
            metadata: Plain JSON values to store with it.

        Returns:
            Its id.

        Raises:
            UsageError: there is no such side.
            PoolError: the pool refuses it.
        """
        if side not in (self.sides or ("",)):
            raise UsageError(f"There is no side {side!r} in this league; there are {list(self.sides)}.")
        return self._add(parameters, Member(side=side), metadata)

    def publish(self, name: str, parameters: Parameters, **metadata: Any) -> int:
        """Let the others meet a main agent as it is now; the copy makes way for later ones.

        Returns:
            The copy's id.

        Raises:
            UsageError: there is no such player, or it is an exploiter: those are met frozen alone.
            PoolError: the pool refuses it.
        """
        player = self[name]
        if player.role != MAIN:
            raise UsageError(f"Nobody plays {name!r} as it is now. Publish main agents; freeze exploiters.")
        snapshot = self._add(parameters, Member(name, player.role, player.side, frozen=False), metadata)
        for old in self.pool.tagged(name, "live")[: -self.live_copies]:
            if old in self.pool:
                self.pool.remove(old)
        return snapshot

    def freeze(self, name: str, parameters: Parameters, **metadata: Any) -> int:
        """Add a copy of a player that stays. The player's curriculum notices it by itself.

        Call it before the live policy begins anew, or the copy is that of the beginner.

        Returns:
            The copy's id.

        Raises:
            UsageError: there is no such player.
            PoolError: the pool refuses it.
        """
        player = self[name]
        return self._add(parameters, Member(name, player.role, player.side), metadata)

    @staticmethod
    def advice(curriculum: Curriculum) -> LeagueAdvice:
        """Whether a player is to be frozen now, and whether it begins anew thereafter.

        Args:
            curriculum: The player's curriculum, as it is, synced, or as part of a dual curriculum.

        Raises:
            UsageError: it holds no player of a league, or several.
        """
        metrics = curriculum.metrics()
        found = [key.removesuffix("freeze_due") for key in metrics if key.rpartition("/")[2] == "freeze_due"]
        if len(found) != 1:
            raise UsageError(
                f"{type(curriculum).__name__} holds {len(found)} players of a league; one is wanted."
            )
        return LeagueAdvice(bool(metrics[f"{found[0]}freeze_due"]), bool(metrics[f"{found[0]}reset_due"]))

    # State

    def state_dict(self) -> dict[str, Any]:
        """The state of all players. Where they are hosted, save the synced curricula instead."""
        return {
            "type": "League",
            "players": {name: player.state_dict() for name, player in self.players.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            StateError: the state is of another league, or damaged; nothing is changed.
        """
        check_state(state, "League", {"players"})
        states = state["players"]
        if not isinstance(states, Mapping) or set(states) != set(self.players):
            found = sorted(states) if isinstance(states, Mapping) else states
            raise StateError(f"This league has the players {list(self.players)}; the state is of {found!r}.")
        before = {name: player.state_dict() for name, player in self.players.items()}
        try:
            for name, player in self.players.items():
                player.load_state_dict(states[name])
        except MacurrError:
            for name, player in self.players.items():
                player.load_state_dict(before[name])
            raise

    def _add(self, parameters: Parameters, member: Member, metadata: Mapping[str, Any]) -> int:
        tags = ["league", *filter(None, member[:3]), "frozen" if member.frozen else "live"]
        return self.pool.add(parameters, tags=tags, league=member._asdict(), **metadata)
