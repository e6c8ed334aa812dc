import io
from pathlib import Path

from rich.console import Console

from macurr.training import Status, TrainConfig
from macurr.training.display import LiveDisplay, PlainDisplay, make_display
from macurr.training.rundir import RunDir

STATUS = Status(
    done=0.25, update=3, steps=12_345, seconds=4.0, speed=9_876.0, win_rate=0.614, levels_seen=1_204, pool=7
)
NUMBERS = ("9,876 steps/s", "61.4%", "1,204", "7")


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
    assert all(number in lines[1] for number in (*NUMBERS, "12,345 steps", "25%"))
    assert "100 of 100 games" in lines[2]
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_bars():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    with LiveDisplay(console) as display:
        display.began(RunDir(Path("runs/x")), TrainConfig())
        display.updated(STATUS)
        display.evaluating(1, 2)
    text = out.getvalue()
    assert all(number in text for number in (*NUMBERS, "25%", "50%", "1 of 2 games", "runs/x"))


def test_no_terminal_no_bars():
    assert isinstance(make_display(), PlainDisplay)
