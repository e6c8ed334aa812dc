"""A curriculum that hands out every task once and writes down all that it is told, in order."""

from collections import defaultdict
from dataclasses import dataclass, field

from macurr import Curriculum, DiscreteTaskSpace, EpisodeAborted, EpisodeResult, StepBatch, TaskProgress


class Ledger(Curriculum):
    """Tasks 0, 1, 2, ... in order; messages by environment as they arrive."""

    def __init__(self, n=10_000, fields=("rewards", "dones", "observations")):
        super().__init__(DiscreteTaskSpace(n))
        self._fields = frozenset(fields)
        self.drawn = 0
        self.specs = {}
        self.told = defaultdict(list)

    @property
    def requires_step_updates(self):
        return bool(self._fields)

    @property
    def step_fields(self):
        return self._fields

    def register_env(self, env_id, spec):
        super().register_env(env_id, spec)
        self.specs[env_id] = spec

    def _sample(self, k):
        self.drawn += k
        return list(range(self.drawn - k, self.drawn))

    def update_on_step_batch(self, batch):
        self.told[batch.env_id].append(batch)

    def update_on_episode(self, episode_return, length, task, progress, env_id=None):
        super().update_on_episode(episode_return, length, task, progress, env_id)
        self.told[env_id].append(EpisodeResult(task, env_id, episode_return, length, progress))

    def update_task_progress(self, task, progress, env_id=None):
        self.told[env_id].append(TaskProgress(task, env_id, progress))

    def update_on_abort(self, task, env_id=None):
        self.told[env_id].append(EpisodeAborted(task, env_id))

    def aborted(self):
        """The tasks that came back, of all environments."""
        return sorted(m.task for told in self.told.values() for m in told if isinstance(m, EpisodeAborted))


@dataclass
class Played:
    """A finished episode as the curriculum was told of it: its result, and the steps before that."""

    result: EpisodeResult
    batches: list[StepBatch] = field(default_factory=list)


def finished(told):
    """The episodes that one environment finished, in order; fails where a message is out of order."""
    episodes, batches = [], []
    stepped = any(isinstance(message, StepBatch) for message in told)
    for message in told:
        if isinstance(message, StepBatch):
            assert message.starts_episode == (not batches)
            assert not any(batch.ends_episode for batch in batches)
            batches.append(message)
        elif isinstance(message, EpisodeResult | EpisodeAborted):
            ended = isinstance(message, EpisodeResult)
            assert all(batch.task == message.task for batch in batches)
            if batches:
                assert batches[-1].ends_episode == ended
            if ended:
                assert not stepped or sum(map(len, batches)) == message.length
                episodes.append(Played(message, batches))
            batches = []
    assert batches == []
    return episodes
