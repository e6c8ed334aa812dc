"""The parts of a run put together: environments, curriculum, learner and files, one update after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from macurr.errors import ConfigError, PoolError, StateError
from macurr.opponents import AgentPool
from macurr.persistence import write_atomically
from macurr.training.collector import Collector
from macurr.training.config import TrainConfig
from macurr.training.envs import EnvSource
from macurr.training.evaluation import evaluate
from macurr.training.layout import Layout
from macurr.training.levels import LevelHistory, LevelScores
from macurr.training.logs import TensorBoard
from macurr.training.policy import Policy, PolicySpec
from macurr.training.ppo import PPO
from macurr.training.report import write_report
from macurr.training.rollout import Episode
from macurr.training.rundir import RunDir
from macurr.training.session import playing, probe
from macurr.training.status import Listener, Status, TrainResult
from macurr.training.tasks import score_message

__all__ = ["Trainer"]

_RECENT = 1000
"""Episodes that the win rate shown is over."""


class Trainer:
    """The parts of a run, put together.

    Args:
        config: The settings.
        run: The run's directory.
        layout: How the environment is laid out, where it is known already.

    Raises:
        ConfigError: the environment cannot be used.
        PoolError: the pool's folder cannot be used.
    """

    def __init__(self, config: TrainConfig, run: RunDir, layout: Layout | None = None) -> None:
        self.config, self.directory = config, run
        self.source = EnvSource(config.env, dict(config.env_args))
        self.layout = layout or probe(self.source)
        self._generator = torch.Generator().manual_seed(config.seed)
        self.policy = Policy(PolicySpec.of(self.layout, config.model.hidden), self._generator)
        self.ppo = PPO(self.policy, config.ppo, self._generator)
        self._scores = LevelScores(
            config.tasks.score, config.num_envs, per_opponent=config.curriculum == "joint"
        )
        self.history = LevelHistory(config.tasks.levels)
        self.pool = AgentPool(run.snapshots, config.tasks.capacity, keep="spread")
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._update, self._steps, self._episodes, self._seconds = 0, 0, 0, 0.0
        self._speed = 0.0
        self._row: dict[str, Any] = {}
        self._timing: dict[str, float] = {}
        self._saved: dict[str, Any] | None = None
        self._curriculum_state: Mapping[str, Any] | None = None

    @classmethod
    def start(cls, config: TrainConfig) -> Trainer:
        """Begin a new run. A run that cannot begin leaves nothing behind.

        Raises:
            ConfigError: the environment or the directory cannot be used.
        """
        layout = probe(EnvSource(config.env, dict(config.env_args)))
        LevelScores(config.tasks.score, 0)
        run = RunDir.create(config)
        try:
            return cls(config, run, layout)
        except BaseException:
            run.discard()
            raise

    def run(self, listener: Listener | None = None) -> None:
        """Train until a bound is reached.

        Args:
            listener: Is told how the run gets on.

        Raises:
            MacurrError: something failed; what was reached is saved.
            KeyboardInterrupt: the user interrupted; what was reached is saved.
        """
        listener = listener or Listener()
        try:
            listener.began(self.directory, self.config)
            if not len(self.pool):
                self._add_snapshot()
            with TensorBoard(self.directory.tensorboard, self._steps) as board, self._playing() as parts:
                synced, collector = parts
                if self._saved is None:
                    self._saved = self._capture(synced)
                while not self._finished():
                    self._one_update(synced, collector)
                    self._keep(synced, board)
                    listener.updated(self.status())
        except BaseException:
            self._save_or_discard()
            raise
        self._save()

    def finish(self, listener: Listener | None = None) -> TrainResult:
        """Add the final policy to the pool, evaluate it and write the report."""
        if self.pool.metadata(self.pool.latest).get("update") != self._update:
            self._add_snapshot()
        self._save()
        write_atomically(self.directory.policy, safetensors.numpy.save(self.policy.arrays()))
        listener = listener or Listener()
        result = evaluate(self.directory.path, listener.evaluating)
        if self.config.evaluation.report:
            write_report(self.directory.path)
        return TrainResult(self.directory, self.status(), result)

    def status(self) -> Status:
        """Where the run stands."""
        outcomes = np.array(self._recent)
        return Status(
            done=self._progress(),
            update=self._update,
            steps=self._steps,
            seconds=self._seconds,
            speed=self._speed,
            win_rate=float((outcomes + 1).mean() / 2) if len(outcomes) else 0.5,
            levels_seen=self.history.seen,
            pool=len(self.pool),
        )

    # One update

    def _one_update(self, synced: Any, collector: Collector) -> None:
        begun = time.perf_counter()
        config = self.config.ppo
        rollout = collector.collect(config.rollout, config.gamma)
        collected = time.perf_counter()
        estimates = rollout.advantages(config.gamma, config.gae_lambda)
        scored = self._scores.read(rollout, estimates)
        self._teach(synced, scored)
        losses = self.ppo.update(rollout.samples(estimates), self._progress())
        self._update += 1
        self._steps += self.config.batch
        self._episodes += len(rollout.episodes)
        self._recent.extend(episode.outcome for episode in rollout.episodes)
        self.history.mark(self._steps)
        ended = time.perf_counter()
        self._seconds += ended - begun
        self._speed = self.config.batch / (ended - begun)
        self._row = self._metrics(rollout.episodes, scored, losses)
        self._timing = {
            "update": self._update,
            "seconds": self._seconds,
            "steps_per_second": self._speed,
            "collect": collected - begun,
            "train": ended - collected,
        }

    def _keep(self, synced: Any, board: TensorBoard) -> None:
        """Write down what came of an update."""
        self.directory.append(self.directory.metrics, self._row)
        self.directory.append(self.directory.timing, self._timing)
        board.write(self._row, self._timing, synced, self._steps)
        due = self._update % self.config.tasks.snapshot_every == 0
        if due:
            self._add_snapshot()
        self._saved = self._capture(synced)
        if due:
            self._save()

    def _teach(self, synced: Any, scored: list[tuple[Episode, float]]) -> None:
        """Tell the curriculum what the learner thinks of the levels that it has just finished."""
        for episode, score in scored:
            self.history.add(episode.level, score)
        message = score_message(self.config, scored)
        if message is not None:
            synced.update_on_demand(message)

    def _metrics(
        self, episodes: list[Episode], scored: list[tuple[Episode, float]], losses: Mapping[str, float]
    ) -> dict[str, Any]:
        outcomes = np.array([episode.outcome for episode in episodes])
        return {
            "update": self._update,
            "steps": self._steps,
            "episodes": self._episodes,
            "win": _mean(outcomes > 0),
            "draw": _mean(outcomes == 0),
            "loss": _mean(outcomes < 0),
            "learner_return": _mean([episode.learner_return for episode in episodes]),
            "episode_length": _mean([episode.length for episode in episodes]),
            "level_score": _mean([score for _, score in scored]),
            "levels_seen": self.history.seen,
            "pool": len(self.pool),
            **losses,
        }

    def _add_snapshot(self) -> None:
        self.pool.add(self.policy.arrays(), update=self._update, steps=self._steps)
        self._scores.keep(self.pool.ids)

    # Bounds

    def _progress(self) -> float:
        shares = [0.0]
        if self.config.max_steps is not None:
            shares.append(self._steps / self.config.max_steps)
        elif self.config.max_minutes is not None:
            shares.append(self._seconds / 60 / self.config.max_minutes)
        return min(max(shares), 1.0)

    def _finished(self) -> bool:
        steps, minutes = self.config.max_steps, self.config.max_minutes
        return (steps is not None and self._steps >= steps) or (
            minutes is not None and self._seconds >= 60 * minutes
        )

    # State

    def _playing(self) -> AbstractContextManager[tuple[Any, Collector]]:
        return playing(
            self.config,
            self.source,
            self.layout,
            self.policy,
            self.pool,
            self._generator,
            self._curriculum_state,
        )

    def _capture(self, synced: Any) -> dict[str, Any]:
        """Everything after an update, independent of what comes next."""
        return {
            "type": "Trainer",
            "learner": self.ppo.state_dict(),
            "curriculum": synced.state_dict(),
            "generator": self._generator.get_state().numpy().copy(),
            "scores": self._scores.state_dict(),
            "history": self.history.state_dict(),
            "recent": list(self._recent),
            "snapshots": self.pool.ids,
            "counters": {
                "update": self._update,
                "steps": self._steps,
                "episodes": self._episodes,
                "seconds": self._seconds,
            },
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: it does not fit this run.
        """
        try:
            self.ppo.load_state_dict(state["learner"])
            self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
            self._scores.load_state_dict(state["scores"])
            self.history.load_state_dict(state["history"])
            self._recent.extend(state["recent"])
            counters = state["counters"]
            self._update, self._steps = int(counters["update"]), int(counters["steps"])
            self._episodes, self._seconds = int(counters["episodes"]), float(counters["seconds"])
            # Snapshots that the checkpoint does not know are of updates that will be made again.
            for stray in set(self.pool.ids) - set(state["snapshots"]):
                self.pool.remove(stray)
        except (KeyError, TypeError, ValueError, StateError, PoolError) as error:
            raise ConfigError(
                f"The run {self.directory.path} cannot be resumed: its checkpoint does not fit ({error}). "
                "Start a new one."
            ) from error
        self._saved = dict(state)
        self._curriculum_state = state["curriculum"]
        self.directory.cut(self._update)

    def _save(self) -> None:
        if self._saved is not None:
            self.directory.save(self._saved)

    def _save_or_discard(self) -> None:
        """After a failure: keep what was reached, or leave nothing where there is nothing to keep."""
        if self._update or self.directory.checkpoint.exists():
            self._save()
        else:
            self.directory.discard()


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0
