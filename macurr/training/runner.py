"""A training run from the first reset to the report, and on from where it was interrupted."""

from __future__ import annotations

import dataclasses

from macurr.persistence import write_atomically
from macurr.training.config import TrainConfig
from macurr.training.rundir import RunDir
from macurr.training.status import Listener, TrainResult
from macurr.training.threads import bounded_threads
from macurr.training.trainer import Trainer

__all__ = ["resume", "train"]


def train(config: TrainConfig | None = None, listener: Listener | None = None) -> TrainResult:
    """Train, evaluate and report.

    Args:
        config: The settings; the defaults are a run of a few minutes on the apple race.
        listener: Is told how the run gets on.

    Returns:
        The result; everything else is in the run's directory.

    Raises:
        ConfigError: the settings, the environment or the directory cannot be used; nothing is left behind.
        MacurrError: something failed on the way; what was reached is saved.
        KeyboardInterrupt: the user interrupted; what was reached is saved, and `resume` goes on from it.
    """
    config = config or TrainConfig()
    with bounded_threads(config.threads):
        trainer = Trainer.start(config)
        trainer.run(listener)
        return trainer.finish(listener)


def resume(
    path: str,
    listener: Listener | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
) -> TrainResult:
    """Go on with a run: pool, curriculum, policy, optimiser, generators and counters are those of its last update.

    Episodes that were under way are played anew. With the local transport, and where updates end with episodes,
    the run goes on as if it had not been interrupted.

    Args:
        path: The run's directory.
        listener: Is told how the run gets on.
        steps: A new bound on steps, for the run as a whole.
        minutes: A new bound on minutes, for the run as a whole.

    Returns:
        The result, as from `train`.

    Raises:
        ConfigError: there is no run that can be resumed.
        MacurrError: something failed on the way; what was reached is saved.
    """
    run, config = RunDir.open(path)
    if steps is not None or minutes is not None:
        config = dataclasses.replace(config, steps=steps, minutes=minutes)
    with bounded_threads(config.threads):
        state = run.load()
        trainer = Trainer(config, run)
        trainer.load(state)
        write_atomically(run.config, config.to_json().encode())
        trainer.run(listener)
        return trainer.finish(listener)
