import dataclasses
import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from macurr.training import Status, TrainConfig
from macurr.training.display import (
    LiveDisplay,
    PlainDisplay,
    balanced,
    introduction,
    make_display,
    numbers,
)
from macurr.training.rundir import RunDir

STATUS = Status(
    done=0.25,
    update=3,
    steps=12_345,
    seconds=4.0,
    speed=9_876.0,
    win_rate=0.614,
    levels_seen=1_204,
    pool=7,
    learner_return=-1.25,
    lag=3.21,
    level_entropy=5.713,
)
NUMBERS = ("12,345 steps", "9,876 steps/s", "win rate 61.4%", "lag 3.2", "level entropy 5.71", "pool 7")


def test_numbers_are_those_that_there_are():
    assert numbers(STATUS) == "  ".join(NUMBERS)
    alone = dataclasses.replace(STATUS, win_rate=None, lag=None, level_entropy=None)
    assert numbers(alone) == "12,345 steps  9,876 steps/s  return -1.25  pool 7"
    unknown = dataclasses.replace(STATUS, lag=math.nan, level_entropy=math.nan)
    assert numbers(unknown) == "12,345 steps  9,876 steps/s  win rate 61.4%  pool 7"


def test_numbers_that_are_too_many_for_a_line_make_two_of_one_length():
    text = numbers(STATUS)
    assert balanced(text, len(text)) == text
    first, second = balanced(text, len(text) - 1).split("\n")
    assert f"{first}  {second}" == text
    assert abs(len(first) - len(second)) <= max(map(len, NUMBERS))
    assert balanced("word", 2) == "word"


def test_lines_are_sparse_and_plain():
    out = io.StringIO()
    with PlainDisplay(Console(file=out, width=40)) as display:
        display.began(RunDir(Path("runs/x")), TrainConfig())
        for _ in range(50):
            display.updated(STATUS)
        for done in range(100):
            display.evaluating(done + 1, 100)
    lines = out.getvalue().splitlines()
    assert "runs/x" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["train", "evaluate"]
    assert all(number in lines[1] for number in (*NUMBERS, "25%"))
    assert "100 of 100 games" in lines[2]
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_terminal_gets_bars_and_every_number_at_any_width(width):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width)
    with LiveDisplay(console) as display:
        display.began(RunDir(Path("runs/x")), TrainConfig())
        display.updated(STATUS)
    words = " ".join(out.getvalue().split())
    assert all(word in words for number in (*NUMBERS, "25%", "runs/x") for word in number.split())


def test_the_evaluation_has_a_bar_of_its_own():
    out = io.StringIO()
    with LiveDisplay(Console(file=out, force_terminal=True, width=160)) as display:
        display.updated(STATUS)
        display.evaluating(1, 2)
    assert all(text in out.getvalue() for text in ("50%", "1 of 2 games"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cut_off_or_broken_on_a_narrow_terminal(width):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    with LiveDisplay(console) as display:
        display.began(RunDir(Path("runs/apple_race_v0-20261121-162000")), TrainConfig())
        display.updated(STATUS)
        display.evaluating(100, 12_204)
    assert "\N{HORIZONTAL ELLIPSIS}" not in out.getvalue()
    assert "100 of 12,204 games" in out.getvalue()
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, shown)) <= width
    assert "run directory runs/apple_race_v0-20261121-162000" in " ".join(" ".join(shown).split())
    assert display.width == width


def test_the_training_is_over_when_the_evaluation_begins():
    # Minutes may end a run before its steps are done: its bar does not go on counting them.
    out = io.StringIO()
    with LiveDisplay(Console(file=out, force_terminal=True, width=160)) as display:
        display.updated(STATUS)
        display.evaluating(1, 2)
    last = [line for line in out.getvalue().splitlines() if "train" in line][-1]
    assert "100%" in last
    assert "25%" not in last
    assert "\u2713" in last


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, "replayed levels (PLR), opponents by pfsp, 128 environments in 2 processes, asynchronous;"),
        (
            {"transport": "local", "workers": 1, "curriculum": "dr", "opponents": "none"},
            "uniform levels (DR), everybody learns, 64 environments in this process, synchronous;",
        ),
        (
            {"workers": 1, "curriculum": "joint", "num_policies": 3, "mapping": "env", "async_rl": False},
            "drawn together, every tenth opponent by pfsp, 3 policies, 64 environments in 1 process, synchronous;",
        ),
    ],
)
def test_what_a_run_is_in_one_line(settings, wanted):
    assert wanted in introduction(RunDir(Path("runs/x")), TrainConfig.of(**settings))


def test_no_terminal_no_bars():
    assert isinstance(make_display(), PlainDisplay)


@pytest.mark.parametrize(("kind", "display"), [("xterm", LiveDisplay), ("dumb", PlainDisplay)])
def test_bars_need_a_terminal_that_can_go_back(monkeypatch, kind, display):
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert isinstance(make_display(), display)
