"""The one owner of a curriculum: it registers environments, routes their updates and hands out tasks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from macurr.curriculum import Curriculum, check_state
from macurr.errors import CurriculumError, MacurrError, StateError, TaskError, UsageError
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, StepBatch, TaskProgress, Update
from macurr.spaces.forms import frozen

__all__ = ["Assignment", "CurriculumHost", "EnvRecord", "Welcome"]

_ENDS = (EpisodeResult, EpisodeAborted)

P = ParamSpec("P")
T = TypeVar("T")


class Assignment(NamedTuple):
    """A task for one episode.

    Attributes:
        encoded: As the curriculum knows it.
        decoded: As the environment receives it.
        info: Further numbers for `infos[agent]` (see `Curriculum.task_info`).
    """

    encoded: Any
    decoded: Any
    info: Mapping[str, float]


class Welcome(NamedTuple):
    """What an environment learns when it connects: its id, and which step fields it has to send."""

    env_id: int
    step_fields: frozenset[str]


@dataclass(slots=True)
class EnvRecord:
    """What the host knows of a connected environment.

    Attributes:
        spec: Who plays.
        begun: The tasks whose end has not been applied yet, oldest first. The word that the next one has begun
            may overtake the result of the one before, which waits its turn behind other updates.
        stock: The tasks drawn ahead, each with the version at its draw.
    """

    spec: EnvSpec
    begun: deque[Any] = field(default_factory=deque)
    stock: deque[tuple[Any, int]] = field(default_factory=deque)

    @property
    def outstanding(self) -> list[Any]:
        """The tasks that are out, oldest first."""
        return [*self.begun, *(task for task, _ in self.stock)]


@dataclass(slots=True)
class _Counters:
    """Running totals; lags count updates applied between a task's draw and its use."""

    updates: int = 0
    steps: int = 0
    episodes: int = 0
    aborted: int = 0
    tasks: int = 0
    started: int = 0
    lag_sum: int = 0
    lag_max: int = 0
    wait_sum: float = 0.0
    wait_max: float = 0.0
    lost_frames: int = 0
    late: int = 0


class CurriculumHost:
    """Owns a curriculum and serves it, one call at a time, to environments and to the learner.

    Every call holds one lock. An exception that the curriculum raises while it handles an environment's request
    ends the service: this call and all later ones raise `CurriculumError` with the original as the cause. What
    the learner passes in wrongly is the learner's error alone and ends nothing.

    Args:
        curriculum: The curriculum; nobody else may call it from now on.
        max_envs: Only the first that many environments send step updates; None for all.

    Raises:
        UsageError: `curriculum` is no curriculum, or `max_envs` is negative.
    """

    def __init__(self, curriculum: Curriculum, max_envs: int | None = None) -> None:
        if not isinstance(curriculum, Curriculum):
            raise UsageError(f"A host serves a macurr.Curriculum; got {curriculum!r}.")
        if max_envs is not None and max_envs < 0:
            raise UsageError(f"max_envs must be 0 or more, or None for all environments; got {max_envs}.")
        self._curriculum = curriculum
        self._max_envs = max_envs
        self._lock = threading.RLock()
        self._envs: dict[int, EnvRecord] = {}
        self._next_id = 0
        self._returned: deque[Any] = deque()
        self._failure: BaseException | None = None
        self.closed = False
        self.counters = _Counters()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    # The learner's side

    def call(
        self, method: Callable[Concatenate[Curriculum, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the curriculum by its name; it waits its turn.

        Raises:
            CurriculumError: the curriculum has failed before.
        """
        with self.locked() as curriculum:
            called: T = getattr(curriculum, method.__name__)(*args, **kwargs)
            return called

    def get(self, name: str) -> Any:
        """Read an attribute of the curriculum.

        Raises:
            CurriculumError: the curriculum has failed before.
        """
        with self.locked() as curriculum:
            return getattr(curriculum, name)

    @contextmanager
    def locked(self) -> Iterator[Curriculum]:
        """The curriculum, for the time of a `with` block in which no environment is served.

        Raises:
            CurriculumError: the curriculum has failed before.
        """
        with self._held():
            self.check()
            yield self._curriculum

    def _held(self) -> _Held:
        return _Held(self)

    def _acquire(self) -> None:
        """Wait for the lock, unless the call that holds it is known never to return.

        Raises:
            CurriculumError: the curriculum has failed.
        """
        if not self._lock.acquire(blocking=False):
            while not self._lock.acquire(timeout=1.0):
                self.check()

    def _release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    @property
    def failure(self) -> BaseException | None:
        """The exception that ended the service, or None."""
        return self._failure

    def fail(self, error: BaseException) -> None:
        """End the service: from now on every call raises `CurriculumError` with this cause."""
        self._failure = self._failure or error

    def check(self) -> None:
        """Raise what ended the service, if anything did.

        Raises:
            CurriculumError: the curriculum has failed; its exception is the cause.
        """
        if self._failure is not None:
            raise CurriculumError(
                f"{type(self._curriculum).__name__} failed and serves no more tasks: "
                f"{type(self._failure).__name__}: {self._failure}"
            ) from self._failure

    def close(self) -> None:
        """Serve no more environments. The learner may still read the curriculum."""
        with self._held():
            self.closed = True

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

    # The environments' side

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

    def adopt(self, env_id: int, task: Any) -> None:
        """Note a task that an environment was given in an earlier life of the curriculum; nothing is drawn.

        Raises:
            UsageError: the environment is not connected.
        """
        with self._held():
            env, key = self._env(env_id), frozen(task)
            for i, returned in enumerate(self._returned):
                if frozen(returned) == key:  # it was handed out again already, to this very environment
                    del self._returned[i]
                    break
            self.counters.tasks += 1
            env.stock.append((task, self.counters.updates))

    def record(self, env_id: int) -> EnvRecord:
        """What is known of an environment.

        Raises:
            UsageError: it is not connected.
        """
        with self._held():
            return self._env(env_id)

    def resume(self, env_id: int, begun: Sequence[Any], stock: Sequence[tuple[Any, int]]) -> None:
        """Give a new environment tasks that were out when the state was saved that this host has loaded.

        They are neither drawn nor counted again.

        Args:
            env_id: The environment, which has no tasks yet.
            begun: The tasks whose end had not been applied.
            stock: The tasks drawn ahead, each with the version at its draw (see `EnvRecord`).

        Raises:
            UsageError: the environment is not connected, or has tasks.
            StateError: the host does not have these tasks to hand out; nothing is changed.
        """
        with self._held():
            env = self._env(env_id)
            if env.outstanding:
                raise UsageError(
                    f"Environment {env_id} has tasks already; only a new one can take up others."
                )
            left = list(self._returned)
            keys = [frozen(task) for task in left]
            for task in [*begun, *(task for task, _ in stock)]:
                if (key := frozen(task)) not in keys:
                    raise StateError(
                        f"Task {task!r} was out in environment {env_id} when its episode was saved, and the curriculum "
                        "has no such task to hand out. Load the curriculum's state of the same moment first."
                    )
                del left[keys.index(key)], keys[keys.index(key)]
            self._returned = deque(left)
            env.begun, env.stock = deque(begun), deque(stock)

    def draw(self, env_id: int, k: int, *, start: bool) -> list[Assignment]:
        """Draw tasks for an environment.

        Args:
            env_id: The environment.
            k: How many.
            start: Whether the first of them is begun at once, rather than kept in stock.

        Raises:
            CurriculumError: the curriculum has failed, or fails now.
        """
        self._acquire()
        try:
            env = self._env(env_id)
            with self._serving() as curriculum:
                drawn = [self._assign(curriculum) for _ in range(k)]
            self.counters.tasks += k
            env.stock.extend([(assignment.encoded, self.counters.updates) for assignment in drawn])
            if start:
                self.start(env_id)
            return drawn
        finally:
            self._lock.release()

    def _assign(self, curriculum: Curriculum) -> Assignment:
        # One at a time: what goes with a task is said of the latest draw.
        task = self._returned.popleft() if self._returned else curriculum.sample(1)[0]
        return Assignment(task, curriculum.task_space.decode(task), dict(curriculum.task_info(task)))

    def start(self, env_id: int, wait: float = 0.0) -> None:
        """Note that an environment begins the oldest task of its stock, having waited `wait` seconds for it."""
        self._acquire()
        try:
            env = self._env(env_id)
            task, version = env.stock.popleft()
            env.begun.append(task)
            c = self.counters
            lag = c.updates - version
            c.started += 1
            c.lag_sum += lag
            c.wait_sum += wait
            c.lag_max = max(c.lag_max, lag)
            c.wait_max = max(c.wait_max, wait)
        finally:
            self._lock.release()

    def apply(self, update: Update) -> None:
        """Apply one update.

        Raises:
            CurriculumError: the curriculum has failed, or fails now.
        """
        self._acquire()
        try:
            self._count(update, self._env(update.env_id))
            with self._serving() as curriculum:
                if curriculum.task_space.was_removed(update.task):
                    # The task left the space while it was played: nobody wants to know any more.
                    self.counters.late += 1
                    if isinstance(update, _ENDS):
                        curriculum.update_on_abort(update.task, env_id=update.env_id)
                else:
                    _dispatch(curriculum, update)
        finally:
            self._lock.release()

    def _count(self, update: Update, env: EnvRecord) -> None:
        self.counters.updates += 1
        if isinstance(update, StepBatch):
            self.counters.steps += len(update)
        elif isinstance(update, _ENDS):
            if env.begun:
                env.begun.popleft()
            if isinstance(update, EpisodeResult):
                self.counters.episodes += 1
            else:
                self.counters.aborted += 1

    def _env(self, env_id: int) -> EnvRecord:
        env = self._envs.get(env_id)
        if env is None:
            self.check()
            raise UsageError(f"Environment {env_id} is not connected (connected: {sorted(self._envs)}).")
        return env

    def _serving(self) -> _Serving:
        return _Serving(self, self._curriculum)

    # State

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

    def state_dict(self, *, tasks_of_envs: bool = True) -> dict[str, Any]:
        """The curriculum's state, the counters, and the tasks that are out: drawn or played, not finished.

        Args:
            tasks_of_envs: Whether tasks that connected environments hold are among those that are out. Without
                them, who loads the state has to `reconnect` the environments.
        """
        with self.locked() as curriculum:
            envs = self._envs.values() if tasks_of_envs else ()
            out = [task for env in envs for task in env.outstanding]
            return {
                "type": "CurriculumHost",
                "curriculum": curriculum.state_dict(),
                "outstanding": [curriculum.task_space.plain(task) for task in [*self._returned, *out]],
                "counters": {name: getattr(self.counters, name) for name in _Counters.__slots__},
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. The tasks that were out are handed out again, before any new ones.

        Raises:
            StateError: the state is not a host's, or not of this curriculum; nothing is changed.
            UsageError: environments are connected already.
        """
        check_state(state, "CurriculumHost", {"curriculum", "outstanding", "counters"})
        with self.locked() as curriculum:
            if self._envs:
                raise UsageError(
                    f"{len(self._envs)} environments are connected; load a state before the first reset."
                )
            counters = _counters(state["counters"])
            before = curriculum.state_dict()
            curriculum.load_state_dict(state["curriculum"])
            try:
                # Only now: what a curriculum loads may make its space grow.
                space = curriculum.task_space
                out = [task for task in state["outstanding"] if not space.was_removed(task)]
                self._returned = deque([space.check(task) for task in out])
            except (TaskError, TypeError) as error:
                curriculum.load_state_dict(before)
                raise StateError(f"The state's tasks that are out are damaged: {error}") from error
            self.counters = counters


def _counters(state: Any) -> _Counters:
    if not isinstance(state, Mapping) or set(state) != set(_Counters.__slots__):
        raise StateError(f"The host's counters are {sorted(_Counters.__slots__)}; got {state!r}.")
    wrong = {name: value for name, value in state.items() if type(value) not in {int, float}}
    if wrong:
        raise StateError(f"The host's counters are numbers; got {wrong}.")
    return _Counters(**state)


def _dispatch(curriculum: Curriculum, update: Update) -> None:
    if isinstance(update, EpisodeResult):
        curriculum.update_on_episode(
            update.episode_return, update.length, update.task, update.progress, env_id=update.env_id
        )
    elif isinstance(update, StepBatch):
        curriculum.update_on_step_batch(update)
    elif isinstance(update, TaskProgress):
        curriculum.update_task_progress(update.task, update.progress, env_id=update.env_id)
    elif isinstance(update, EpisodeAborted):
        curriculum.update_on_abort(update.task, env_id=update.env_id)


class _Held:
    """A host's lock, for a `with` block. Not a generator: this runs several times for each episode."""

    __slots__ = ("_host",)

    def __init__(self, host: CurriculumHost) -> None:
        self._host = host

    def __enter__(self) -> None:
        self._host._acquire()

    def __exit__(self, *raised: object) -> None:
        self._host._release()


class _Serving:
    """An environment is served in a `with` block, under the lock: what the curriculum raises ends the service."""

    __slots__ = ("_curriculum", "_host")

    def __init__(self, host: CurriculumHost, curriculum: Curriculum) -> None:
        self._host, self._curriculum = host, curriculum

    def __enter__(self) -> Curriculum:
        self._host.check()
        return self._curriculum

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._host.fail(error)
            self._host.check()
