"""The three roles of a league (Vinyals et al. 2019): whom they play, and whom they have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from macurr.curricula.league_player import MAIN, LeaguePlayer, Shares, even
from macurr.curricula.self_play import check_chance
from macurr.errors import UsageError
from macurr.opponents import AgentPool

__all__ = ["LeagueExploiter", "MainAgent", "MainExploiter", "rising_part"]


class MainAgent(LeaguePlayer):
    """A main agent: it must beat everybody, and not forget how.

    - `pfsp_share` of its games: all frozen snapshots, by (1 - x)^2 where x is the chance of beating them.
    - `verification_share`: frozen main exploiters, if one of them is beaten less than 30 % of the time; else past
      snapshots of a main agent that it has forgotten how to beat (below 70 %, where newer ones are beaten more
      often), by (1 - x)^2; else as below.
    - The rest: a main agent as it is now. If that one is too strong (beaten no more than 30 % of the time), its past
      snapshots by x (1 - x).

    It is frozen when it beats all frozen snapshots, and never begins anew. The figures are those of the published
    pseudocode; the article's text says 20 % for exploiters.

    Args:
        pool: The league's pool.
        name: The player.
        pfsp_share: See above.
        verification_share: See above.
        options: The keywords of `LeaguePlayer`.

    Raises:
        UsageError: the shares sum to more than 1, or an option is out of range.
    """

    role = MAIN

    def __init__(
        self,
        pool: AgentPool,
        name: str,
        *,
        pfsp_share: float = 0.5,
        verification_share: float = 0.15,
        **options: Any,
    ) -> None:
        check_chance("pfsp_share", pfsp_share)
        check_chance("verification_share", verification_share)
        check_chance("pfsp_share + verification_share", pfsp_share + verification_share)
        super().__init__(pool, name, **options)
        if self.reset_prob:
            raise UsageError("A main agent never begins anew: give reset_prob to exploiters alone.")
        self.pfsp_share, self.verification_share = pfsp_share, verification_share

    @override
    def shares(self) -> Shares:
        mains = self.live()
        self_play = mean([self._self_play(main) for main in mains])
        verification = mean([self._verification(main) or self._self_play(main) for main in mains])
        everybody = self.prioritized(self.frozen(), "squared") or self_play
        rest = 1.0 - self.pfsp_share - self.verification_share
        return mix(
            [
                (self.pfsp_share, everybody),
                (self.verification_share, verification or everybody),
                (rest, self_play or everybody),
            ]
        )

    @override
    def targets(self) -> list[int]:
        return self.frozen()

    def _self_play(self, main: int) -> Shares:
        player = self._members[main].player
        if player == self.name or self.win_rates([main])[0] > 0.3:
            return {main: 1.0}
        return self.prioritized(self.frozen(player), "variance") or {main: 1.0}

    def _verification(self, main: int) -> Shares:
        exploiters = self.frozen(role="main_exploiter")
        if exploiters and self.win_rates(exploiters).min() < 0.3:
            return self.prioritized(exploiters, "squared")
        past = self.frozen(self._members[main].player)
        past = past[: rising_part(self.win_rates(past))] if past else []
        if past and self.win_rates(past).min() < 0.7:
            return self.prioritized(past, "squared")
        return {}


class MainExploiter(LeaguePlayer):
    """A main exploiter: it looks for what the main agents do wrong now.

    It plays a main agent as it is now; if that one is out of reach (beaten no more than 10 % of the time), its past
    snapshots by x (1 - x). It is frozen when it beats the main agents, and then begins anew.

    Args:
        pool: The league's pool.
        name: The player.
        reset_prob: How likely it is to begin anew.
        options: The keywords of `LeaguePlayer`.
    """

    role = "main_exploiter"

    def __init__(self, pool: AgentPool, name: str, *, reset_prob: float = 1.0, **options: Any) -> None:
        super().__init__(pool, name, reset_prob=reset_prob, **options)

    @override
    def shares(self) -> Shares:
        return mean([self._exploit(main) for main in self.live()])

    @override
    def targets(self) -> list[int]:
        return self.live()

    def _exploit(self, main: int) -> Shares:
        if self.win_rates([main])[0] > 0.1:
            return {main: 1.0}
        return self.prioritized(self.frozen(self._members[main].player), "variance") or {main: 1.0}


class LeagueExploiter(LeaguePlayer):
    """A league exploiter: it looks for what nobody in the league can do.

    It plays all frozen snapshots by min(1/2, 1 - x). It is frozen when it beats them all, and then begins anew now
    and then.

    Args:
        pool: The league's pool.
        name: The player.
        reset_prob: How likely it is to begin anew.
        options: The keywords of `LeaguePlayer`.
    """

    role = "league_exploiter"

    def __init__(self, pool: AgentPool, name: str, *, reset_prob: float = 0.25, **options: Any) -> None:
        super().__init__(pool, name, reset_prob=reset_prob, **options)

    @override
    def shares(self) -> Shares:
        return self.prioritized(self.frozen(), "linear_capped") or even(self.live())

    @override
    def targets(self) -> list[int]:
        return self.frozen()


def mean(parts: Sequence[Shares]) -> Shares:
    """The mean of distributions; empty for none."""
    return mix([(1.0 / len(parts), part) for part in parts])


def mix(parts: Sequence[tuple[float, Shares]]) -> Shares:
    """Distributions added up by their weights."""
    total: Shares = {}
    for weight, part in parts:
        for snapshot, share in part.items():
            total[snapshot] = total.get(snapshot, 0.0) + weight * share
    return total


def rising_part(win_rates: NDArray[np.float64]) -> int:
    """How many win rates are left when the tail that does not rise is cut off.

    Of one's past selves, older ones are beaten more often; so a tail of falling win rates is as it should be, and what
    comes before it, up to the last rise, holds selves that have been forgotten.
    """
    rises = np.flatnonzero(win_rates[:-1] < win_rates[1:])
    return int(rises[-1]) + 2 if len(rises) else 0
