import dataclasses

import numpy as np
import pytest

from macurr.errors import ConfigError
from macurr.training import TrainConfig, evaluate, write_report
from macurr.training.evaluation import Evaluation, Row, _fill
from macurr.training.rundir import RunDir
from macurr.training.scoring import by_seat, outcomes, student_half, team_of, wilson


def test_wilson_by_hand():
    # n = 10, 8 successes: the textbook's 0.4902 to 0.9433.
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(1.0, 200)[1] == pytest.approx(1.0)
    assert 0.97 < wilson(1.0, 200)[0] < 1.0
    assert wilson(0.0, 5)[0] == 0.0


def test_own_return_and_the_others_mean_by_seat():
    # One pair, one seed, three seats: the player of interest sits at 0, 1, 2 in turn.
    returns = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    table = by_seat(returns, pairs=1, sides=[(0,), (1,), (2,)])
    assert table.shape == (1, 1, 3, 2)
    assert table[0, 0].tolist() == [[1, 2.5], [5, 5], [9, 7.5]]
    assert by_seat(np.array([[4.0], [5.0]]), pairs=1, sides=[(0,)])[0, :, 0].tolist() == [[4, 0], [5, 0]]


def test_a_role_counts_by_the_mean_of_its_agents():
    # One pair, one seed: the player of interest is agents 0 and 1 in the first match, agent 2 in the second.
    returns = np.array([[1.0, 3, 5], [2, 6, 10]])
    table = by_seat(returns, pairs=1, sides=[(0, 1), (2,)])
    assert table[0, 0].tolist() == [[2, 5], [10, 4]]


def test_equal_means_are_a_draw_whatever_their_last_bits_say():
    returns = np.array([[0.1, 0.1, 0.1, 0.1]] * 4)
    assert outcomes(by_seat(returns, 1, [(0,), (1,), (2,), (3,)])).tolist() == [[[0.5] * 4]]
    assert outcomes(np.array([[1.0, 1.001], [1.001, 1.0], [-3.0, -3.0]])).tolist() == [0.0, 1.0, 0.5]


def test_a_team_by_hand():
    # Means over agents are 1, 2 and 3 on three levels: Student's t with 2 degrees of freedom is 4.3027.
    team = team_of("final policy", 7, np.array([[0.0, 2], [1, 3], [2, 4]]))
    assert (team.games, team.mean_return, team.agents) == (3, 2.0, (1.0, 3.0))
    assert (team.high - team.low) / 2 == pytest.approx(4.3027 / np.sqrt(3), abs=1e-4)
    assert student_half(np.array([1.0])) == np.inf


def test_the_table_of_teams():
    rows = [team_of(name, 9000, np.array([[0.0, 2], [1, 3]])) for name in ("final policy", "snapshot 12")]
    result = dataclasses.replace(evaluation(), rows=(), teams=tuple(rows))
    assert Evaluation.from_json(result.to_json()) == result
    assert result.team("snapshot 12").mean_return == 1.5
    with pytest.raises(KeyError):
        result.team("random")
    lines = result.table().splitlines()
    assert " ".join(lines[2].split()) == "final policy 9,000 2 1.50 -4.85 to 7.85 0.50 2.50"
    assert "levels 10 to 11" in lines[4]


def test_a_matrix_is_filled_from_one_side_where_seats_are_exchanged():
    matrix = np.full((3, 3), np.nan)
    won = np.array([[[1.0, -1], [0, 0]]])  # one seed: a win and a draw
    _fill(matrix, [(0, 1), (1, 2)], np.stack([won, -won]))
    assert matrix[0, 1] == 0.75
    assert matrix[1, 0] == 0.25
    assert matrix[1, 2] == 0.25
    assert np.isnan(matrix[0, 2])


def evaluation(agents=("a", "b")):
    row = Row("random", None, 4, 0.5, 0.25, 0.25, 0.625, 0.2, 0.9, 1.5, (0.75, 0.5))
    later = dataclasses.replace(row, opponent="snapshot 3", steps=12_000)
    return Evaluation((row, later), 2, 10, (3, 8), ((None, 0.4), (0.6, None)), 1, agents)


def test_table():
    lines = evaluation().table().splitlines()
    random = "random - 4 50.0% 25.0% 25.0% 62.5% 20.0% - 90.0% 1.50 75.0% 50.0%"
    assert " ".join(lines[2].split()) == random
    assert lines[3].split()[:4] == ["snapshot", "3", "12,000", "4"]
    assert len({len(line) for line in lines[:4]}) == 1, "columns are aligned"
    assert "10 to 11" in lines[4]
    many = evaluation(agents=tuple("abcd")).table()
    assert "by seat" not in many
    assert "75.0%" not in many


def test_json_and_rows():
    assert Evaluation.from_json(evaluation().to_json()) == evaluation()
    assert evaluation().row("snapshot 3").steps == 12_000
    with pytest.raises(KeyError):
        evaluation().row("snapshot 4")


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_only_runs_are_evaluated_and_drawn(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for function in (evaluate, write_report):
        with pytest.raises(ConfigError, match="not the directory of a macurr run"):
            function(path)


def test_run_directories_get_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [RunDir.create(TrainConfig(env="some.package:maker")) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert all(run.path.name.startswith("package-") for run in runs)
    assert RunDir.open(runs[0].path)[1].env == "some.package:maker"


def test_rows_of_unknown_updates_are_cut(tmp_path):
    run = RunDir(tmp_path)
    for update in range(1, 6):
        run.append(run.metrics, {"update": update, "x": update / 2})
    with run.metrics.open("a") as torn:
        torn.write("6,")
    run.cut(3)
    assert run.metrics.read_text() == "update,x\n1,0.5\n2,1.0\n3,1.5\n"
