"""Tournaments and comparisons: games with known results, counted by hand, and what is made of them."""

import csv
import io
import json

import numpy as np
import pytest

from macurr.errors import ConfigError, PoolError
from macurr.opponents import elo_ratings, ratings
from macurr.training import compare, tournament
from macurr.training.duels import all_pairs
from macurr.training.players import OpenRun, spread
from macurr.training.standings import Results, cycles_of, standings_of
from macurr.training.tournament_picture import draw
from tests.support.tournaments import AUCTION, planted

RPS = "pettingzoo.classic.rps_v2"
ROCK, PAPER, SCISSORS = 0, 1, 2


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for name, action, hidden in (
        ("rock", ROCK, (4,)),
        ("paper", PAPER, (5, 3)),
        ("scissors", SCISSORS, (2,)),
    ):
        planted(folder / name, RPS, 6, 3, action, hidden=hidden)
    return folder


def bidder(folder, bid, **options):
    agents = options.pop("agents", 3)
    return planted(folder, AUCTION, 1 + agents, 3, bid, env_args={"agents": agents}, **options)


# --- results that are known ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_rock_paper_scissors(shapes, workers):
    told = []
    result = tournament(
        [shapes / name for name in ("rock", "paper", "scissors")],
        levels=5,
        workers=workers,
        on_progress=lambda done, total: told.append((done, total)),
    )
    place = {entry.name: i for i, entry in enumerate(result.players)}
    beaten = {"rock": "scissors", "paper": "rock", "scissors": "paper"}
    for winner, loser in beaten.items():
        i, j = place[winner], place[loser]
        assert (result.wins[i][j], result.draws[i][j], result.losses[i][j]) == (10, 0, 0)
        assert (result.wins[j][i], result.draws[j][i], result.losses[j][i]) == (0, 0, 10)
        assert (result.returns[i][j], result.returns[j][i]) == (15.0, -15.0)
        assert (result.scores[i, j], result.scores[j, i]) == (1.0, 0.0)
    # Ratings see three equals; what tells the truth is the equilibrium, and the cycle.
    for entry in result.players:
        assert entry.elo == pytest.approx(1500)
        assert entry.elo_low < 1500 < entry.elo_high
        assert entry.score == 0.5
        assert (entry.nash, entry.alpha_rank) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert result.cycles == (("rock", "scissors", "paper"),)
    assert "Cycle: rock beats scissors beats paper beats rock." in result.table()
    assert told[-1] == (30, 30)
    assert result.levels == (20, 21, 22, 23, 24)
    assert result.held_out


def test_more_agents_than_two_play_alone_against_teams(tmp_path):
    runs = [bidder(tmp_path / name, bid) for name, bid in (("low", 0), ("middle", 1), ("high", 2))]
    result = tournament(runs, levels=2)
    assert [entry.name for entry in result.players] == ["high", "middle", "low"]
    # Two levels, three seats: 6 games alone; the one who plays for the team has its own 6.
    assert result.wins == ((None, 6, 6), (0, None, 6), (0, 0, None))
    assert result.losses == ((None, 0, 0), (6, None, 0), (6, 6, None))
    assert result.returns == ((None, 2, 2), (1, None, 1), (0, 0, None))
    assert [entry.nash for entry in result.players] == pytest.approx([1, 0, 0], abs=1e-9)
    assert [entry.score for entry in result.players] == [1.0, 0.5, 0.0]
    wanted = elo_ratings(np.array([[0, 2, 2], [0, 0, 2], [0, 0, 0]]))
    for entry, elo, low, high in zip(result.players, *wanted, strict=True):
        assert (entry.elo, entry.elo_low, entry.elo_high) == pytest.approx((elo, low, high))
    assert result.players[0].skill > result.players[1].skill > result.players[2].skill


def test_equals_draw(tmp_path):
    runs = [bidder(tmp_path / name, 1, agents=2) for name in ("one", "other")]
    result = tournament(runs, levels=3)
    assert result.draws == ((None, 6), (6, None))
    assert [entry.elo for entry in result.players] == pytest.approx([1500, 1500])
    assert [entry.nash for entry in result.players] == pytest.approx([0.5, 0.5])
    assert result.cycles == ()


def test_levels_count_once_whoever_sits_where(tmp_path):
    runs = [bidder(tmp_path / name, bid, agents=2) for name, bid in (("low", 0), ("high", 2))]
    # Four levels from two seats are four points, not eight.
    wanted = elo_ratings(np.array([[0, 4], [0, 0]]))
    result = tournament(runs, levels=4)
    assert result.player("high").elo == pytest.approx(wanted.ratings[0])
    assert result.player("high").elo_low == pytest.approx(wanted.low[0])


def test_skills_take_every_pair_and_level_once():
    # One pair, two levels, one won and one drawn over the seats.
    skill = standings_of(Results(((0, 1),), np.array([[1.0, 0.5]]), 2), seed=0)
    reference = {tuple(order): ratings.BayesianRatings() for order in ((0, 1), (1, 0))}
    for order, beliefs in reference.items():
        for level in order:
            beliefs.record(0, 1, (0.5, 0.0)[level])
    means = [beliefs.rating(0).mu for beliefs in reference.values()]
    assert any(skill.skill[0] == pytest.approx(mean) for mean in means)
    assert skill.skill_low[0] < skill.skill[0] < skill.skill_high[0]


def test_cycles_are_clear_of_chance_and_named_once():
    pairs = ((0, 1), (1, 2), (0, 2))
    clear = np.array([[1.0] * 20, [1.0] * 20, [0.0] * 20])
    assert cycles_of(Results(pairs, clear, 3)) == [(0, 1, 2)]
    assert cycles_of(Results(pairs, 1 - clear, 3)) == [(0, 2, 1)]
    assert cycles_of(Results(pairs, np.where(clear > 0, 0.55, 0.45), 3)) == []
    assert cycles_of(Results(pairs, np.abs(clear[:1].repeat(3, 0)), 3)) == []


def test_pairs():
    assert all_pairs(3, sides=2) == [(0, 1), (0, 2), (1, 2)]
    assert all_pairs(2, sides=3) == [(0, 1), (1, 0)]


# --- trained runs --------------------------------------------------------------------------------------------


def test_policies_of_other_layers_meet_and_the_result_repeats(runs):
    def played():
        return tournament([runs / "a", runs / "b"], snapshots="all", levels=3, include_random=True)

    first, second = played(), played()
    assert {entry.name for entry in first.players} == {"a:0", "a:2", "a", "b:0", "b:2", "b", "random"}
    assert {entry.name: entry.steps for entry in first.players}["a:2"] == 240
    assert first.player("b").steps == 360
    assert first.player("b").run == str(runs / "b")
    assert first.player("random").run is None
    assert first == second
    assert first.to_json() == second.to_json()
    games = np.array(first.wins, float) + np.array(first.draws, float) + np.array(first.losses, float)
    assert np.array_equal(np.isnan(games), np.eye(7, dtype=bool))
    assert set(games[~np.eye(7, dtype=bool)]) == {6.0}
    assert [entry.elo for entry in first.players] == sorted((e.elo for e in first.players), reverse=True)
    assert sum(entry.nash for entry in first.players) == pytest.approx(1)
    assert sum(entry.alpha_rank for entry in first.players) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "snapshots", "wanted"),
    [
        ("a", "last", [None]),
        ("a", "all", [0, 2, None]),
        ("a", 1, [None]),
        ("a", 2, [0, None]),
        ("a", 9, [0, 2, None]),
        ("a:2", "all", [2]),
        ("a@200", "last", [2]),
        ("a@1e2", "last", [0]),
        ("a@1_000", "last", [3]),
    ],
)
def test_snapshots_by_name(runs, text, snapshots, wanted):
    assert OpenRun(runs / text).chosen(snapshots) == wanted


def test_a_directory_is_taken_by_its_name_before_anything_else(runs, tmp_path):
    (tmp_path / "a:2").symlink_to(runs / "a")
    run = OpenRun(tmp_path / "a:2")
    assert run.picked is None
    assert run.chosen("last") == [None]


def test_spread():
    assert spread(5, 9) == spread(5, 5) == [0, 1, 2, 3, 4]
    assert spread(5, 1) == [4]
    assert spread(5, 2) == [0, 4]
    assert spread(5, 3) == [0, 2, 4]
    assert [len(spread(100, k)) for k in range(1, 101)] == list(range(1, 101))


def test_runs_of_one_name_go_by_their_paths(tmp_path):
    runs = [bidder(tmp_path / folder / "run", bid, agents=2) for folder, bid in (("x", 0), ("y", 2))]
    result = tournament(runs, levels=1)
    assert [entry.name for entry in result.players] == [str(tmp_path / "y/run"), str(tmp_path / "x/run")]
    assert draw(result).startswith(b"\x89PNG"), "long names fit into the picture"


def test_a_run_named_random_is_told_from_chance(tmp_path):
    run = bidder(tmp_path / "random", 2, agents=2)
    result = tournament([run], levels=5, include_random=True)
    assert [entry.name for entry in result.players] == [str(run), "random"]


def test_files(shapes, tmp_path):
    out = tmp_path / "deep" / "out"
    result = tournament([shapes / "rock", shapes / "paper"], levels=2, out=out, include_random=True)
    assert sorted(file.name for file in out.iterdir()) == [
        "matrix.csv",
        "matrix.png",
        "ratings.csv",
        "tournament.json",
    ]
    rows = list(csv.reader(io.StringIO((out / "matrix.csv").read_text())))
    names = [entry.name for entry in result.players]
    assert rows[0] == ["player", *names]
    assert [row[0] for row in rows[1:]] == names
    place = {name: i for i, name in enumerate(names)}
    assert rows[1 + place["paper"]][1 + place["rock"]] == "1.0"
    assert rows[1 + place["rock"]][1 + place["rock"]] == ""
    rated = list(csv.DictReader(io.StringIO((out / "ratings.csv").read_text())))
    assert [float(row["elo"]) for row in rated] == [entry.elo for entry in result.players]
    data = json.loads((out / "tournament.json").read_text())
    assert data["players"][place["paper"]]["name"] == "paper"
    assert data["scores"][place["paper"]][place["rock"]] == 1.0
    assert data["scores"][0][0] is None
    assert data["levels"] == [20, 21]
    assert (out / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_rating_library(shapes, monkeypatch):
    monkeypatch.setattr(ratings, "_openskill", None)
    result = tournament([shapes / "rock", shapes / "paper"], levels=2)
    assert result.players[0].skill is None
    assert "skill " not in result.table().splitlines()[0]
    assert "pip install 'macurr[ratings]'" in result.table()


def test_levels_of_training_are_told(runs):
    result = tournament([runs / "a", runs / "b"], levels=[7, 30, 19])
    assert result.levels == (7, 30, 19)
    assert not result.held_out
    assert "3 levels from 7 to 30 (some were trained on)" in result.table()
    assert "held-out level 25:" in tournament([runs / "a", runs / "b"], levels=[25]).table()


def test_another_environment_of_the_same_shape(runs):
    result = tournament([runs / "a", runs / "b"], levels=1, env="tests.support.training:Ragged")
    assert result.env == "tests.support.training:Ragged"
    longer = tournament([runs / "a", runs / "b"], levels=1, env_args={"length": 50})
    assert (longer.env, longer.env_args) == ("tests.support.training:Duel", {"length": 50})


def test_nothing_stays_of_a_tournament_that_is_interrupted(shapes, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tournament(
            [shapes / "rock", shapes / "paper"], levels=1, out=tmp_path / "x" / "y", on_progress=interrupt
        )
    assert list(tmp_path.iterdir()) == []


def test_one_agent_meets_nobody(tmp_path):
    runs = [bidder(tmp_path / name, 1, agents=1) for name in ("one", "other")]
    with pytest.raises(ConfigError, match="one side: nobody meets"):
        tournament(runs, levels=1)


def test_a_finished_run_that_went_on_has_a_final_policy_of_its_own(tmp_path):
    run = bidder(tmp_path / "run", 2, agents=2, past=[0, 1])
    assert OpenRun(run).chosen("all") == [0, 1, None]
    assert OpenRun(run).steps(None) == 200
    later = OpenRun(run)
    later.pool.add(later.pool.get(0), steps=300)
    assert later.chosen("all") == [0, 1, 2, 3, None]
    assert later.steps(None) is None


@pytest.mark.parametrize(
    "options", [{"snapshots": True}, {"snapshots": "first"}, {"seed": 0.5}, {"workers": True}]
)
def test_options_that_are_none(runs, options):
    with pytest.raises(ConfigError, match="cannot be used"):
        tournament([runs / "a", runs / "b"], **options)


# --- comparisons ---------------------------------------------------------------------------------------------


def test_compare_with_all_kinds_of_opponents(tmp_path):
    run = bidder(tmp_path / "run", 1, agents=2, past=[0, 2])
    other = bidder(tmp_path / "other", 2, agents=2, past=[0])
    result = compare(run, ["random", "pool", other, f"{other}:0"], levels=3)
    assert [(row.opponent, row.steps) for row in result.rows] == [
        ("random", None),
        ("run:0", 0),
        ("run:1", 100),
        ("other", 100),
        ("other:0", 0),
    ]
    assert [row.score for row in result.rows[1:]] == [1, 0, 0, 1]
    assert [row.mean_return for row in result.rows] == [1] * 5
    assert result.row("run:0").games == 6
    assert result.row("run:0").seats == (1, 1)
    assert (result.player, result.steps, result.levels) == ("run", 200, (20, 21, 22))
    data = json.loads((run / "comparison.json").read_text())
    assert [row["score"] for row in data["rows"]] == [row.score for row in result.rows]
    assert (data["player"], data["held_out"]) == ("run", True)
    table = result.table()
    assert "run in tests.support.tournaments:Auction,\nheld-out levels 20 to 22" in table
    assert "bidder_0" in table
    with pytest.raises(KeyError):
        result.row("nobody")


def test_compare_a_snapshot(tmp_path):
    run = bidder(tmp_path / "run", 1, agents=2, past=[0, 2])
    by_option = compare(run, ["pool"], snapshot=1, levels=1, out=tmp_path / "one.json")
    assert by_option.player == "run:1"
    assert [(row.opponent, row.score) for row in by_option.rows] == [("run:0", 1), ("run:2", 1)]
    assert compare(f"{run}@110", ["pool"], levels=1, out=tmp_path / "two.json") == by_option
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert not (run / "comparison.json").exists()


def test_a_damaged_snapshot_matters_to_those_only_who_want_it(tmp_path):
    run = bidder(tmp_path / "run", 1, agents=2, past=[0, 2])
    file = run / "snapshots" / "000000000002.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    assert compare(run, [f"{run}:0"], levels=1).row("run:0").score == 1
    with pytest.raises(PoolError, match="cut short"):
        compare(run, ["pool"], levels=1)
