"""Tables of results as text: what gives way where a terminal is narrow."""

import pytest

from macurr.training.scoring import Row, Team, rows_table, teams_table

ROWS = [
    Row("random", None, 60, 0.783, 0.134, 0.083, 0.85, 0.684, 0.937, 2.7, (0.85, 0.85)),
    Row("snapshot 1", 40_960, 60, 0.7, 0.1, 0.2, 0.75, 0.573, 0.87, 1.7, (0.717, 0.783)),
]
TEAMS = [
    Team("final policy", 81_920, 10, 3.25, 2.5, 4.0, (3.0, 3.5)),
    Team("random", None, 10, 0.5, 0, 1, (0, 1)),
]
AGENTS = ("player_0", "player_1")


def columns(text):
    return text.splitlines()[0].replace("95 % interval", "interval").replace("at step", "step").split()[1:]


@pytest.mark.parametrize(
    ("width", "left"),
    [
        (
            None,
            ["step", "games", "win", "draw", "loss", "score", "interval", "return", "player_0", "player_1"],
        ),
        (
            114,
            ["step", "games", "win", "draw", "loss", "score", "interval", "return", "player_0", "player_1"],
        ),
        (113, ["step", "games", "win", "draw", "loss", "score", "interval", "return"]),
        (80, ["step", "games", "win", "draw", "loss", "score", "interval"]),
        (60, ["step", "games", "score", "interval"]),
        (40, ["score", "interval"]),
        (10, ["score", "interval"]),
    ],
)
def test_columns_give_way_to_a_narrow_terminal(width, left):
    text = rows_table(ROWS, AGENTS, "Final policy on held-out levels 2000 to 2029", width)
    assert columns(text) == left
    for said in ("85.0%", "68.4% -  93.7%", "75.0%", "57.3% -  87.0%"):
        assert said in text
    if width is not None and width >= 40:
        assert max(map(len, text.splitlines())) <= width
    if len(left) < 10:
        assert "A wider terminal shows more: " in " ".join(text.split())
        assert "player_0, player_1." in " ".join(text.split())
        assert "by seat" not in text, "nothing is said of columns that are not there"
    else:
        assert "the last columns are scores by seat." in text


@pytest.mark.parametrize(("width", "left"), [(None, 6), (91, 6), (80, 4), (40, 2)])
def test_teams_keep_their_means_and_intervals(width, left):
    text = teams_table(TEAMS, AGENTS, "Played on held-out levels 2000 to 2009", width)
    assert text.splitlines()[0].startswith("all agents")
    assert len(columns(text)) - 1 == left
    assert "2.50 to 4.00" in text
    assert text.splitlines()[2].split()[:2] == ["final", "policy"]
    assert (max(map(len, text.splitlines())) <= width) if width else "wider" not in text
