"""The environments of a host: who is connected, under which id, with which tasks."""

from __future__ import annotations

from macurr.curriculum import Curriculum
from macurr.errors import MacurrError, UsageError
from macurr.host.owner import Owner
from macurr.host.records import Counters, EnvRecord, Welcome
from macurr.messages import EnvSpec


class Roster(Owner):
    """An owner that registers environments and counts what they do.

    Args:
        curriculum: The curriculum; nobody else may call it from now on.
        max_envs: Only the first that many environments send step updates; None for all.

    Raises:
        UsageError: `curriculum` is no curriculum, or `max_envs` is negative.
    """

    def __init__(self, curriculum: Curriculum, max_envs: int | None = None) -> None:
        super().__init__(curriculum)
        if max_envs is not None and max_envs < 0:
            raise UsageError(f"max_envs must be 0 or more, or None for all environments; got {max_envs}.")
        self._max_envs = max_envs
        self._envs: dict[int, EnvRecord] = {}
        self._next_id = 0
        self.counters = Counters()

    def connect(self, spec: EnvSpec) -> Welcome:
        """Register an environment.

        Returns:
            Its id, never used before in this host's life, and the step fields it must send.

        Raises:
            UsageError: the curriculum cannot work with such an environment; nobody else is disturbed.
            CurriculumError: the curriculum has failed before.
        """
        with self.locked() as curriculum:
            env_id = self._next_id
            try:
                curriculum.register_env(env_id, spec)
            except MacurrError:
                raise
            except Exception as error:
                self.fail(error)
                self.check()
            self._next_id += 1
            self._envs[env_id] = EnvRecord(spec)
            sends = curriculum.requires_step_updates and (self._max_envs is None or env_id < self._max_envs)
            return Welcome(env_id, curriculum.step_fields if sends else frozenset())

    def disconnect(self, env_id: int) -> EnvRecord | None:
        """Forget an environment: its unfinished episode is aborted, its stock of tasks goes back.

        Returns:
            What was known of it, for `reconnect`; None if it was not connected.
        """
        with self._held(), self._serving() as curriculum:
            env = self._envs.pop(env_id, None)
            if env is None:
                return None
            self.counters.aborted += len(env.begun)
            for task in env.outstanding:
                curriculum.update_on_abort(task, env_id)
            curriculum.unregister_env(env_id)
            return env

    def reconnect(self, env_id: int, record: EnvRecord) -> None:
        """Take back an environment under the id it had, with the tasks that it had out.

        Raises:
            UsageError: an environment with this id is connected, or the curriculum refuses it.
            CurriculumError: the curriculum has failed before.
        """
        with self.locked() as curriculum:
            if env_id in self._envs:
                raise UsageError(f"Environment {env_id} is connected; another cannot take its id.")
            curriculum.register_env(env_id, record.spec)
            self._envs[env_id] = record
            self._next_id = max(self._next_id, env_id + 1)

    def record(self, env_id: int) -> EnvRecord:
        """What is known of an environment.

        Raises:
            UsageError: it is not connected.
        """
        with self._held():
            return self._env(env_id)

    def _env(self, env_id: int) -> EnvRecord:
        env = self._envs.get(env_id)
        if env is None:
            self.check()
            raise UsageError(f"Environment {env_id} is not connected (connected: {sorted(self._envs)}).")
        return env

    @property
    def envs(self) -> dict[int, EnvRecord]:
        """What is known of each connected environment, by its id."""
        with self._held():
            return dict(self._envs)

    @property
    def next_id(self) -> int:
        """The id of the next environment that connects."""
        return self._next_id

    def reserve_ids(self, until: int) -> None:
        """Give no environment that connects from now on an id below `until`."""
        with self._held():
            self._next_id = max(self._next_id, until)

    def metrics(self) -> dict[str, float]:
        """The counters as numbers: updates applied, tasks out, lag in updates, waits in seconds."""
        with self._held():
            c = self.counters
            return {
                "envs": float(len(self._envs)),
                "updates_applied": float(c.updates),
                "steps_applied": float(c.steps),
                "episodes": float(c.episodes),
                "aborted_episodes": float(c.aborted),
                "tasks_drawn": float(c.tasks),
                "tasks_outstanding": float(sum(len(env.outstanding) for env in self._envs.values())),
                "lag_mean": c.lag_sum / c.started if c.started else 0.0,
                "lag_max": float(c.lag_max),
                "reset_wait_mean": c.wait_sum / c.started if c.started else 0.0,
                "reset_wait_max": c.wait_max,
                "lost_frames": float(c.lost_frames),
                "late_updates": float(c.late),
            }
