"""A training run from the first reset to the report, and on from where it was interrupted."""

from __future__ import annotations

from typing import Any

from macurr.errors import ConfigError
from macurr.training.config import TrainConfig, settings_of
from macurr.training.logs import check_logs
from macurr.training.rundir import RunDir
from macurr.training.status import Listener, TrainResult
from macurr.training.threads import bounded_threads
from macurr.training.trainer import Trainer

__all__ = ["resume", "train"]

_BOUNDS = ("steps", "minutes")


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
    check_logs(config)
    with bounded_threads(config.threads):
        trainer = Trainer.start(config)
        try:
            return _finished(trainer, listener)
        finally:
            trainer.directory.release()


def resume(path: str, listener: Listener | None = None, **changes: Any) -> TrainResult:
    """Go on with a run: pool, curriculum, policies, optimisers, generators and counters are those of its checkpoint.

    With the local transport and synchronous training the run goes on as if it had not been interrupted. With worker
    processes, episodes that were under way are played anew. A run that was killed before its first checkpoint, which
    is written after its first update, begins again.

    Args:
        path: The run's directory.
        listener: Is told how the run gets on.
        **changes: Settings to change. Those of `TrainConfig` that leave what is trained as it is: `steps` and
            `minutes` (new bounds for the run as a whole; one replaces both), `device`, `threads`, `worker_restarts`,
            `worker_timeout`, `checkpoint_minutes`, `tensorboard`, `wandb`, `seeds`, `matrix_seeds`, `report`.

    Returns:
        The result, as from `train`.

    Raises:
        ConfigError: there is no run that can be resumed, another process is at work on it, or a setting cannot be
            changed.
        MacurrError: something failed on the way; what was reached is saved.
    """
    run, config = RunDir.open(path)
    config = _changed(config, changes)
    check_logs(config)
    run.check()
    with run.locked(), bounded_threads(config.threads):
        state = run.load()
        trainer = Trainer(config, run)
        if state is None:
            trainer.begin_anew()
        else:
            trainer.load(state)
        run.write(run.config, config.to_yaml().encode())
        return _finished(trainer, listener)


def _finished(trainer: Trainer, listener: Listener | None) -> TrainResult:
    with trainer.directory.guarded():
        trainer.run(listener)
        return trainer.finish(listener)


def _changed(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    # None for a bound leaves it as it was: a run has to end.
    changes = {name: value for name, value in changes.items() if name not in _BOUNDS or value is not None}
    allowed = [item.name for item in settings_of(TrainConfig) if item.changeable]
    fixed = sorted(set(changes) - set(allowed))
    if fixed:
        raise ConfigError(
            f"{', '.join(fixed)} cannot be changed when a run goes on: it would be another run. What can be changed: "
            f"{', '.join(allowed)}. Leave that out, or start a new run."
        )
    if changes.keys() & set(_BOUNDS):
        changes = {**dict.fromkeys(_BOUNDS), **changes}
    return TrainConfig.of(**{**config.settings(), **changes})
