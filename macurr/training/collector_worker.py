"""What runs in a collector's own process: it starts the workers, and then all that acts.

Inference and the gathering of batches take the interpreter as training does: in one process they would take turns.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

from typing_extensions import override

from macurr.errors import MacurrError, TransportError
from macurr.training.channel import FAILED, WARNING, Line, wait_for
from macurr.training.children import failure, inherited
from macurr.training.guard import deaf
from macurr.training.parcels import unpacked
from macurr.training.vector import VectorEnv

__all__ = ["main"]

_NICE = 5
"""How far collection stands back for training, where both want the same core.

Where training is the slower, all that it waits for a core is lost to the run. Where it is not, it takes no more of the
machine for coming first, and its weights are newer.
"""


def main(handle: int | None) -> None:
    """Serve the learner at the other end of an inherited socket.

    Args:
        handle: The socket's number; None where it comes over standard input (on Windows).
    """
    deaf()
    learner = Line(inherited(handle))
    log = logging.getLogger("macurr")
    log.addHandler(_Teller(learner))
    log.propagate = False
    os.dup2(2, 1)  # what is printed belongs to the error stream, not into what the learner prints
    if sys.platform != "win32":
        os.nice(_NICE)
    with suppress(OSError), ExitStack() as opened:  # the learner is gone, and with it the reason to run
        try:
            _serve(learner, opened)
        except MacurrError as error:
            # Some are an OSError too: they are told here, not taken for the end of the line.
            learner.send(FAILED, (failure(error),), 0)
        except Exception as error:  # a defect here: the learner is told, whatever it is
            text = f"The collector failed: {error}\n{traceback.format_exc()}"
            learner.send(FAILED, (failure(TransportError(), text),), 0)
    sys.stderr.flush()
    os._exit(0)  # the learner waits, and taking down all that was imported would take half a second


class _Teller(logging.Handler):
    """Lets the learner log what is logged here, where its user will see it.

    Args:
        learner: The line to it. Only the main thread uses it, as only that logs.
    """

    def __init__(self, learner: Line) -> None:
        super().__init__(logging.WARNING)
        self._learner = learner

    @override
    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # it is gone, which whoever listens notices next
            self._learner.post(WARNING, (record.getMessage().encode(),))


def _serve(learner: Line, opened: ExitStack) -> None:
    start = _start(learner)
    if start is None:
        return
    jobs = pickle.loads(start["jobs"])
    vector = VectorEnv(jobs, start["shapes"], local=False, splits=start["splits"], timeout=start["timeout"])
    opened.enter_context(vector)
    # While the workers start, so does torch.
    import_module("macurr.training.collector_server").serve(learner, vector, start["more"])


def _start(learner: Line) -> Mapping[str, Any] | None:
    """What the learner says first; None where it is gone."""
    while not learner.inbox and not learner.over:
        wait_for([learner], None)
        learner.read()
    if not learner.inbox:
        return None
    start: Mapping[str, Any] = unpacked(learner.inbox.popleft().content)
    return start
