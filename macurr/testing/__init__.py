"""Conformance tests to subclass, and checks to call: what macurr asks of curricula, transports and environments.

```python
from macurr import DiscreteTaskSpace
from macurr.testing import CurriculumTests


class TestMine(CurriculumTests):
    def make(self, seed):
        return Mine(DiscreteTaskSpace(10), seed=seed)
```

The classes are collected by pytest and need nothing from it; each failed check says which promise is broken.
"""

from macurr.testing.curricula import ONE_AGENT, TWO_AGENTS, CurriculumTests
from macurr.testing.environments import task_env_api_test
from macurr.testing.episodes import apply_update, random_episode
from macurr.testing.levels import Difference, LevelReport, check_level_determinism
from macurr.testing.probes import ProbeEnv, TraceCurriculum
from macurr.testing.transports import TransportTests

__all__ = [
    "ONE_AGENT",
    "TWO_AGENTS",
    "CurriculumTests",
    "Difference",
    "LevelReport",
    "ProbeEnv",
    "TraceCurriculum",
    "TransportTests",
    "apply_update",
    "check_level_determinism",
    "random_episode",
    "task_env_api_test",
]
