"""Matches of several policies, roles, teams, memories and games in turns: results that follow from the actions."""

import numpy as np
import pytest
import torch

from macurr.errors import ConfigError, PoolError
from macurr.training import compare, evaluate, matches, tournament
from macurr.training.envs import EnvSource
from macurr.training.matches import Arena, seat_matches, team_matches
from macurr.training.opponents import RANDOM
from macurr.training.session import probe
from tests.support.tournaments import AUCTION, planted

BY_PARITY = "tests.support.tournaments:by_parity"
ROLES = {"names": ["adversary_0", "adversary_1", "agent_0"]}


def bidder(folder, bid, env_args, **settings):
    agents = len(env_args.get("names", ())) or env_args.get("agents", 3)
    return planted(folder, AUCTION, 1 + agents, 3, bid, env_args=env_args, **settings)


def test_matches_of_roles_and_of_teams():
    matches = seat_matches([(7, 8)], [3, 4], 3, sides=[(0, 1), (2,)])
    assert matches.players.tolist() == [[7, 7, 8], [8, 8, 7]] * 2
    assert matches.seeds.tolist() == [3, 3, 4, 4]
    teams = team_matches([5, 6], [3, 4], 2)
    assert teams.players.tolist() == [[5, 5], [5, 5], [6, 6], [6, 6]]
    assert teams.seeds.tolist() == [3, 4, 3, 4]


def test_each_agent_is_played_by_the_policy_that_the_mapping_gives_it(tmp_path):
    options = {"num_policies": 2, "mapping": BY_PARITY}
    run = bidder(tmp_path / "two", [0, 2], {"agents": 2}, past=[[1, 1]], **options)
    row = compare(run, ["pool"], levels=3).row("two:0")
    # From seat 0 it bids 0 against 1, from seat 1 it bids 2 against 1.
    assert row.seats == (0.0, 1.0)
    assert row.returns == (0.0, 2.0)
    assert row.mean_return == 1.0


def test_a_snapshot_of_another_number_of_policies_is_refused(tmp_path):
    run = bidder(tmp_path / "r", [0, 2], {"agents": 2}, num_policies=2, mapping=BY_PARITY, past=[[1, 1, 1]])
    with pytest.raises(PoolError, match="holds 3 policies, and its run has 2"):
        compare(run, ["pool"], levels=2)


def test_the_best_policy_of_a_population_plays(tmp_path):
    options = {"num_policies": 2, "mapping": "random", "past": [[0, 0]]}
    for noted, bid in (({}, 1.0), ({"best": 1}, 2.0)):
        name = f"best-{bid:g}"
        run = bidder(tmp_path / name, [1, 2], {"agents": 2}, noted=noted, **options)
        assert compare(run, ["pool"], levels=1).row(f"{name}:0").mean_return == bid


def test_roles_play_together(tmp_path):
    runs = [bidder(tmp_path / str(bid), bid, ROLES, sides="role") for bid in (0, 1, 2)]
    result = tournament(runs, levels=4)
    assert result.agents == ("adversary", "agent_0")
    assert [entry.name for entry in result.players] == ["2", "1", "0"]
    assert result.wins[0][1] == 8, "each pair meets on 4 levels from 2 sides"
    assert result.returns[0][1] == 2.0


def test_runs_of_different_sides_do_not_meet(tmp_path):
    runs = [bidder(tmp_path / sides, 1, ROLES, sides=sides) for sides in ("agent", "role")]
    with pytest.raises(ConfigError, match="different sides"):
        tournament(runs, levels=2)


def test_who_learned_together_is_evaluated_together(tmp_path):
    run = bidder(tmp_path / "r", 2, {"agents": 3}, opponents="none", past=[0], curriculum="dr", seeds=5)
    result = evaluate(run)
    assert [team.name for team in result.teams] == ["final policy", "snapshot 0", "random"]
    best = result.team("final policy")
    assert (best.mean_return, best.low, best.high, best.agents) == (2.0, 2.0, 2.0, (2.0, 2.0, 2.0))
    assert result.team("snapshot 0").mean_return == 0.0
    assert 0.3 < result.team("random").mean_return < 1.7
    assert result.rows == result.matrix == ()
    other = bidder(tmp_path / "other", 1, {"agents": 3}, opponents="none", curriculum="dr")
    against = compare(run, [other, "random"], levels=3)
    assert [(team.name, team.mean_return) for team in against.teams[:2]] == [("r", 2.0), ("other", 1.0)]
    assert "all agents" in against.table()


class Counting:
    """A bank of players who remember how often they have acted in their episode, and bid that number."""

    state_size = 1

    def act(self, observations, masks, ids, policies, states, generator):
        return states[:, 0].long().clamp(max=2), states + 1


@pytest.mark.parametrize("workers", [0, 2])
def test_memories_begin_anew_with_each_match(workers):
    source = EnvSource(AUCTION, {"agents": 2, "rounds": 3})
    arena = Arena(source, probe(source), Counting(), torch.Generator(), workers)
    # More matches than environments, so that environments play several one after the other.
    returns = arena.play(team_matches([0], range(300), 2))
    assert (returns == 0 + 1 + 2).all()


def test_turns():
    source = EnvSource("pettingzoo.classic.tictactoe_v3")
    layout = probe(source)

    class Lowest:
        """Players who take the lowest free square."""

        state_size = 0

        def act(self, observations, masks, ids, policies, states, generator):
            assert masks.any(dim=1).all(), "who acts has a legal action"
            return masks.long().argmax(dim=1), None

    returns = Arena(source, layout, Lowest(), torch.Generator(), 0).play(seat_matches([(1, 2)], [0, 1], 2))
    # Squares 0, 2, 4, 6 are the first player's: 2-4-6 is a line, so it wins whoever it is.
    assert returns.tolist() == [[1.0, -1.0]] * 4
    assert RANDOM == -1
    assert np.isfinite(returns).all()


@pytest.mark.parametrize("length", [41, 42])
def test_matches_that_do_not_end_are_refused(length, monkeypatch):
    monkeypatch.setattr(matches, "_MOST_STEPS", 41)
    source = EnvSource("tests.support.training:Duel", {"length": length})

    class Idle:
        """Players who do nothing."""

        state_size = 0

        def act(self, observations, masks, ids, policies, states, generator):
            return torch.zeros(len(observations), dtype=torch.int64), None

    arena = Arena(source, probe(source), Idle(), torch.Generator(), 0)
    if length == 41:
        assert (arena.play(team_matches([0], range(200), 2)) == 0.0).all(), "several one after the other"
        return
    with pytest.raises(ConfigError, match=r"is not over after 41 steps.*max_cycles"):
        arena.play(team_matches([0], [0], 2))
