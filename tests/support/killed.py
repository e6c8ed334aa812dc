"""A run in a process of its own, to be killed from outside: `python -m tests.support.killed start|resume DIR JSON`."""

import json
import sys

from macurr.training import TrainConfig, resume, train


def main():
    action, folder, text = sys.argv[1:]
    if action == "start":
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        train(TrainConfig.of(out=folder, **settings))
    else:
        resume(folder)


if __name__ == "__main__":
    main()
