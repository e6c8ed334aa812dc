"""Programs that take turns on one machine, so that whatever else it does hits all of them alike.

A program is stopped with all of its processes (SIGSTOP) while another one runs (SIGCONT). A turn is short against the
minutes over which a shared machine changes its speed. What a program has begun when it is stopped it ends in its next
turn, so that nothing is lost at the edges. Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

TICKS = os.sysconf("SC_CLK_TCK")


class Turn(NamedTuple):
    """What a program did while it ran.

    Attributes:
        seconds: How long that was.
        done: What it got done, as it counts itself.
        cpu: Seconds of CPU time of all of its processes.
    """

    seconds: float
    done: int
    cpu: float

    @property
    def rate(self) -> float:
        """What it got done per second."""
        return self.done / self.seconds


class Program:
    """A process and its descendants, which begin at once.

    Args:
        command: What to run.
        done: Counts what it has got done so far.
    """

    def __init__(self, command: Sequence[str], done: Callable[[], int]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._done = done

    def wait_for(self, ready: Callable[[], bool], timeout: float = 300.0) -> None:
        """Wait until something holds, while it runs."""
        end = time.monotonic() + timeout
        while not ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The program did not get going: exit code {self._process.poll()}.")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let it wait for its next turn."""
        self._signal(signal.SIGSTOP)

    def turn(self, seconds: float) -> Turn:
        """Let it run for so long."""
        done, cpu = self._done(), self._cpu()
        self._signal(signal.SIGCONT)
        begun = time.perf_counter()
        time.sleep(seconds)
        self.stop()
        ran = time.perf_counter() - begun
        if self._process.poll() is not None:
            raise RuntimeError(f"The program ended by itself, with exit code {self._process.returncode}.")
        return Turn(ran, self._done() - done, self._cpu() - cpu)

    def end(self) -> None:
        """Kill it with its descendants."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        pids = list(self._pids())
        # Descendants are up before their ancestors look for them, and stop after those have stopped looking.
        for pid in reversed(pids) if number == signal.SIGCONT else pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> Iterator[int]:
        waiting = [self._process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            with suppress(FileNotFoundError, ProcessLookupError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    waiting.extend(map(int, children.read_text().split()))

    def _cpu(self) -> float:
        used = 0
        for pid in self._pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                used += int(fields[11]) + int(fields[12])
        return used / TICKS


class Rounds:
    """What programs did in turns.

    Args:
        programs: By name; all are stopped.
        rounds: How many turns each takes.
        seconds: Of a turn.
    """

    def __init__(self, programs: Mapping[str, Program], rounds: int, seconds: float) -> None:
        self._turns: dict[str, list[Turn]] = {name: [] for name in programs}
        for number in range(rounds):
            # To and fro: a drift is for and against each alike.
            for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
                self._turns[name].append(programs[name].turn(seconds))

    def whole(self, name: str) -> Turn:
        """All turns of a program as one."""
        return _together(self._turns[name])

    def compared(self, what: Callable[[Turn, Turn], float], name: str, other: str) -> Estimate:
        """Something about two programs: of all turns, with Student's t over blocks of them."""
        turns, others = self._turns[name], self._turns[other]
        block = max(len(turns) // 10, 1)
        values = [
            what(_together(turns[i : i + block]), _together(others[i : i + block]))
            for i in range(0, len(turns) - block + 1, block)
        ]
        n = len(values)
        half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.inf
        return Estimate(what(_together(turns), _together(others)), float(half))


class Estimate(NamedTuple):
    """A number, and half of its 95 % interval."""

    value: float
    half: float

    def told(self, form: str) -> str:
        """In words."""
        low, high = self.value - self.half, self.value + self.half
        return f"{self.value:{form}} (95 % {low:{form}} to {high:{form}})"


def _together(turns: Sequence[Turn]) -> Turn:
    seconds, done, cpu = np.sum(turns, axis=0)
    return Turn(float(seconds), int(done), float(cpu))
