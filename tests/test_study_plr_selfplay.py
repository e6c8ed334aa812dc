"""The figures of the study of level replay and self-play, by hand; that it runs is seen in test_benchmarks.py."""

import importlib.util
import json
import math
import sys

import numpy as np
import pytest

from macurr.envs import apple_race_v0
from tests.support.scripts import ROOT


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location(
        "study_plr_selfplay", ROOT / "benchmarks" / "study_plr_selfplay.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def line(method, seed, by_level, by_opponent=(0, 0, 0, 0)):
    """A run on ten levels, eight games each: at most 16 half points a level."""
    return {
        "env": "race",
        "method": method,
        "seed": seed,
        "half_points": list(by_opponent),
        "half_points_by_level": list(by_level),
        "games_of_level": 8,
    }


def test_figures_of_a_run(study):
    run = line("DR, self", 0, [16] * 5 + [8] * 4 + [3], by_opponent=[10, 20, 40, 30])
    assert study.MEASURES["score"](run) == (5 * 16 + 4 * 8 + 3) / 160
    assert study.MEASURES["CVaR 10 %"](run) == 3 / 16, "the worst one of ten levels"
    assert study.MEASURES["scripted"](run) == 10 / 40
    assert study.MEASURES["panel"](run) == 90 / 120


def test_intervals_and_corrections_by_hand(study):
    middle, half = study.mean_interval([1.0, 2.0, 3.0])
    assert (middle, half) == (2.0, pytest.approx(4.30265 / math.sqrt(3), rel=1e-5))
    gap, half, p = study.difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    # Standard error sqrt(2/3), four degrees of freedom.
    assert (gap, half) == (1.0, pytest.approx(2.77645 * math.sqrt(2 / 3), rel=1e-5))
    assert p == pytest.approx(0.28786, abs=1e-5)
    assert study.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert study.holm([0.9, 0.2, float("nan")])[:2] == pytest.approx([0.9, 0.4])


def test_a_table_needs_no_second_run(study):
    lines = [line("DR, self", 0, [8] * 10), line("DR, PFSP", 0, [12] * 10), line("DR, PFSP", 1, [16] * 10)]
    rows = study.table(lines, "race").splitlines()
    assert rows[2].startswith("| DR, self | 1 | 0.500 ± nan |")
    assert rows[3].startswith("| DR, PFSP | 2 | 0.875 ± 1.588 |")
    assert rows[-1].startswith("| DR, PFSP | +0.375 ± nan |")
    assert rows[-1].endswith("| nan |")


def test_who_stays_loses_to_the_scripted_player_and_draws_with_itself(study):
    width = apple_race_v0.parallel_env().observation_space("player_0").shape[0] + 2
    bias = np.array([50.0, 0, 0, 0, 0], np.float32)
    stays = study.Actor({"actor.0.weight": np.zeros((5, width), np.float32), "actor.0.bias": bias})
    points = study.judged(study.GAMES["race"], stays, [stays], 5, seed=0)
    assert points.shape == (2, 5, 2)
    assert points[0].tolist() == [[0.0, 0.0]] * 5
    assert points[1].tolist() == [[0.5, 0.5]] * 5


def test_seventeen_of_twenty_levels_are_spoiled(study):
    env = study.degenerate_race()
    rng = np.random.default_rng(0)
    earned = []
    for seed in range(20):
        env.reset(seed=seed)
        total = 0.0
        while env.agents:
            _, rewards, *_ = env.step({agent: int(rng.integers(5)) for agent in env.agents})
            total += abs(rewards.get("player_0", 0.0))
        earned.append(total)
    assert earned[:17] == [0.0] * 17
    assert max(earned[17:]) > 0.0


def test_finished_runs_are_not_run_again(study, tmp_path):
    rows = [line(method, 0, [8] * 10) for method in study.METHODS]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "results.jsonl").write_text(text)
    study.run_all(tmp_path, ["race"], [0], study.Scale(), workers=1)
    assert (tmp_path / "results.jsonl").read_text() == text
    assert list(tmp_path.iterdir()) == [tmp_path / "results.jsonl"], "not even the panel"
