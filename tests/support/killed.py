"""A run in a process of its own, to be killed: `python -m tests.support.killed start|resume|unsaved DIR JSON`.

"start" and "resume" are killed from outside; "unsaved" begins a run and kills itself before its first checkpoint.
"""

import json
import os
import signal
import sys
import threading
import time

from macurr.training import TrainConfig, resume, train
from macurr.training.rundir import RunDir


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def not_without(parent):
    """A test that was itself killed leaves no run behind."""
    while os.getppid() == parent:
        time.sleep(1.0)
    die()


def main():
    threading.Thread(target=not_without, args=(os.getppid(),), daemon=True).start()
    action, folder, text = sys.argv[1:]
    if action == "unsaved":
        RunDir.save = die
    if action != "resume":
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        train(TrainConfig.of(out=folder, **settings))
    else:
        resume(folder)


if __name__ == "__main__":
    main()
