"""The parts of a run put together: environments, curriculum, learner and files, one update after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import safetensors.numpy

from macurr.errors import ConfigError, MacurrError, PoolError, StateError
from macurr.opponents import AgentPool
from macurr.training.batch import batch_plan
from macurr.training.checkpoints import Checkpoints, settle_pool
from macurr.training.config import TrainConfig
from macurr.training.envs import EnvSource
from macurr.training.evaluation import evaluate
from macurr.training.history import PlayHistory
from macurr.training.layout import Layout
from macurr.training.learner import LearnerReport
from macurr.training.levels import LevelScores
from macurr.training.logs import RunLogs, open_logs
from macurr.training.loops import Loop, make_loop
from macurr.training.population_hook import make_population
from macurr.training.records import Records
from macurr.training.report import write_report
from macurr.training.rollout import Episode
from macurr.training.rundir import RunDir
from macurr.training.session import Session, make_players, playing, probe, seats_of
from macurr.training.status import Listener, Status, TrainResult
from macurr.training.tasks import level_entropy, score_message

__all__ = ["Trainer"]

_logger = logging.getLogger("macurr")


class Trainer:
    """The parts of a run, put together.

    Args:
        config: The settings.
        run: The run's directory.
        layout: How the environment is laid out, where it is known already.

    Attributes:
        learner: The policies and their optimisers.
        records: The counters, and the latest rows of the tables.
        history: What was played, and what it scored.
        pool: The snapshots.
        population: What compares the policies, or this run with others; None unless it is asked for.

    Raises:
        ConfigError: the environment cannot be used, or the sizes of batches do not fit.
        PoolError: the pool's folder cannot be used.
    """

    def __init__(self, config: TrainConfig, run: RunDir, layout: Layout | None = None) -> None:
        self.config, self.directory = config, run
        self.source = EnvSource(config.env, dict(config.env_args))
        self.layout = layout or probe(self.source)
        seats = seats_of(config, self.layout)
        self.plan = batch_plan(config, [len(own) for own in seats])
        self.learner, self._mapping, self._acting = make_players(config, self.layout)
        self._scores = LevelScores(config.tasks.score, per_opponent=config.curriculum == "joint")
        self.history = PlayHistory(config.tasks.levels)
        self.pool = AgentPool(run.snapshots, config.tasks.capacity, keep="spread")
        contested = any(len(own) < len(self.layout.agents) for own in seats)
        self.records = Records(config.policies.num_policies, contested)
        self.population = make_population(config, run.path, self.learner)
        self._checkpoints = Checkpoints(run, config.checkpoint_minutes)
        self._resumed: Mapping[str, Any] | None = None
        self._between, self._taking = True, False
        self._warned = False

    @classmethod
    def start(cls, config: TrainConfig) -> Trainer:
        """Begin a new run. A run that cannot begin leaves nothing behind.

        Raises:
            ConfigError: the environment or the directory cannot be used, or the sizes of batches do not fit.
        """
        layout = probe(EnvSource(config.env, dict(config.env_args)))
        batch_plan(config, [len(own) for own in seats_of(config, layout)])
        LevelScores(config.tasks.score)
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
            self._snapshot_if_due()
            with (
                open_logs(self.config, self.directory, self.records.steps) as board,
                playing(
                    self.config,
                    self.source,
                    self.layout,
                    self.learner,
                    self._mapping,
                    self.pool,
                    self._acting,
                    self._resumed,
                ) as session,
            ):
                loop = make_loop(self.config, session.collector, self.learner, self.plan, self._progress)
                try:
                    self._train(session, loop, board, listener)
                except BaseException:
                    # What has failed cannot be asked for its state; the one before is kept.
                    with suppress(MacurrError):
                        self._end(session, loop, board)
                    raise
                self._end(session, loop, board)
        except BaseException:
            self._save_or_discard()
            raise
        self._checkpoints.save()

    def finish(self, listener: Listener | None = None) -> TrainResult:
        """Add the final policies to the pool, evaluate them and write the report."""
        self._snapshot_if_due(final=True)
        self._checkpoints.note_snapshots(self.pool.ids)
        self._checkpoints.save()
        self.directory.write(self.directory.policy, safetensors.numpy.save(self.learner.snapshot()))
        listener = listener or Listener()
        result = evaluate(self.directory.path, listener.evaluating)
        if self.config.evaluation.report:
            write_report(self.directory.path)
        return TrainResult(self.directory, self.status(), result)

    def status(self) -> Status:
        """Where the run stands."""
        records = self.records
        return Status(
            done=self._progress(),
            update=records.update,
            steps=records.steps,
            seconds=records.seconds,
            speed=records.speed,
            win_rate=records.win_rate,
            levels_seen=self.history.seen,
            pool=len(self.pool),
            learner_return=records.row.get("learner_return"),
            lag=records.row.get("lag_mean") if self.config.asynchronous else None,
            level_entropy=records.row.get("curriculum_entropy"),
        )

    # Updates

    def _train(self, session: Session, loop: Loop, board: RunLogs, listener: Listener) -> None:
        self.records.start()
        while not self.records.finished(self.config):
            self._between = False
            report = loop.update()
            self._taking = True
            episodes = self._take(report, session, board)
            self._select(episodes, session)
            self._between, self._taking = True, False
            self._checkpoints.offer(
                lambda: self._capture(session),
                often=not self.config.asynchronous,
                first=self.records.update == 1,
            )
            if self._due():
                if self._exact:
                    # Before the pool changes: from here, the same snapshot is taken again, or found.
                    self._checkpoints.capture(lambda: self._capture(session))
                    self._checkpoints.save()
                self._snapshot_if_due()
            listener.updated(self.status())

    def _select(self, episodes: Sequence[Episode], session: Session) -> None:
        """Let the population replace and mutate, where there is one and its time has come."""
        if self.population is None:
            return
        with self.directory.writing(self.population.history.path):
            notes = self.population.after_update(
                self.learner, session.synced, episodes, self.records.steps, self.records.update
            )
        for note in notes:
            _logger.info("Population at %d steps: %s", self.records.steps, note)

    def _take(self, report: LearnerReport, session: Session, board: RunLogs) -> Sequence[Episode]:
        """Take in an update: teach the curriculum, count, and write down what came of it; its episodes."""
        collector = session.collector
        strays, collector.strays = collector.strays, []
        episodes = self.records.count(report, strays)
        begun = time.perf_counter()
        scores = self._teach(session.synced, report)
        entropy = level_entropy(self.config, session.synced)
        collector.clock.add("curriculum", begun)
        self.history.mark(self.records.steps)
        more = {"levels_seen": self.history.seen, "pool": len(self.pool), "curriculum_entropy": entropy}
        self.records.write_row(report, episodes, scores, more)
        self.records.write_timing(report, collector.clock.take(), collector.take_steps())
        self.directory.append(self.directory.metrics, self.records.row)
        self.directory.append(self.directory.timing, self.records.timing)
        board.write(self.records.row, self.records.timing, session.synced, self.records.steps)
        return episodes

    def _teach(self, synced: Any, report: LearnerReport) -> list[float]:
        """Tell the curriculum what the learner thinks of the levels that were finished; the scores."""
        scored, versions = self._scores.read_all(report.rollouts, report.estimates, report.counted)
        for episode, score in scored:
            self.history.add(episode.level, score, episode.opponent)
        message = score_message(self.config, scored, versions)
        if message is not None:
            synced.update_on_demand(message)
        return [score for _, score in scored]

    # Snapshots

    def _due(self, final: bool = False) -> bool:
        """Whether the policies are to enter the pool now, and are not in it yet."""
        if not len(self.pool):
            return True
        due = final or self.records.update % self.config.tasks.snapshot_every == 0
        return due and self.pool.metadata(self.pool.latest).get("update") != self.records.update

    def _snapshot_if_due(self, *, final: bool = False) -> None:
        if self._due(final):
            best = None if self.population is None else self.population.best()
            more: dict[str, Any] = {} if best is None else {"best": best}
            self.pool.add(
                self.learner.snapshot(),
                update=self.records.update,
                steps=self.records.steps,
                policies=len(self.learner.policies),
                **more,
            )
            self._scores.keep(self.pool.ids)
        # Also of one that a killed run had taken after its checkpoint, and that is found again.
        latest = self.pool.latest
        self.history.meet(latest, int(self.pool.metadata(latest)["steps"]))

    def _progress(self) -> float:
        return self.records.progress(self.config)

    # State

    @property
    def _exact(self) -> bool:
        """Whether a resumed run is to be the uninterrupted one, bit by bit."""
        return self.config.transport == "local" and not self.config.asynchronous

    def _end(self, session: Session, loop: Loop, board: RunLogs) -> None:
        """Let the learner finish what it is at, and keep what was reached where that is a whole state."""
        for report in loop.close():
            self._take(report, session, board)
        # A run that repeats exactly goes on from between two updates; the others drop what is being collected. In the
        # middle of the first one's records there is nothing better than what there is.
        taken = not self._taking or self._checkpoints.empty
        whole = self._between if self._exact else loop.settled and taken
        if self.records.update and whole:
            self._checkpoints.capture(lambda: self._capture(session))

    def _capture(self, session: Session) -> dict[str, Any]:
        """Everything after an update, independent of what comes next."""
        collector = session.collector.state_dict(whole=self._exact)
        if self._exact and collector["envs"] is None and not self._warned:
            self._warned = True
            _logger.warning(
                "The environments %s cannot be saved in mid-episode: they cannot be pickled, or not with all that they "
                "hold. If this run is interrupted and resumed, it begins new episodes, and is not to the last bit what "
                "it would have been.",
                self.config.env,
            )
        return {
            "type": "Trainer",
            "learner": self.learner.state_dict(),
            "curriculum": session.synced.state_dict(),
            "collector": collector,
            "scores": self._scores.state_dict(),
            "history": self.history.state_dict(),
            "counters": self.records.state_dict(),
            "population": None if self.population is None else self.population.state_dict(),
            "snapshots": self.pool.ids,
        }

    def begin_anew(self) -> None:
        """Begin a run again that was killed before its first checkpoint. The snapshot of its beginning stays.

        Raises:
            ConfigError: the directory cannot be written.
        """
        settle_pool(self.pool, [], 0)
        self.directory.cut(0)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: it does not fit this run.
        """
        try:
            self.learner.load_state_dict(state["learner"])
            self._scores.load_state_dict(state["scores"])
            self.history.load_state_dict(state["history"])
            self.records.load_state_dict(state["counters"])
            if self.population is not None:
                self.population.load_state_dict(state["population"])
            settle_pool(self.pool, state["snapshots"], self.records.update)
            curriculum, collector = state["curriculum"], state["collector"]
        except (KeyError, TypeError, ValueError, StateError, PoolError) as error:
            raise ConfigError(
                f"The run {self.directory.path} cannot be resumed: its checkpoint does not fit ({error}). "
                "Start a new one."
            ) from error
        self._checkpoints.loaded(state)
        self._resumed = {"curriculum": curriculum, "collector": collector}
        self.directory.cut(self.records.update)

    def _save_or_discard(self) -> None:
        """After a failure: keep what was reached, or leave nothing where there is nothing to keep."""
        if self.records.update or self.directory.checkpoint.exists():
            self._checkpoints.save()
        else:
            self.directory.discard()
