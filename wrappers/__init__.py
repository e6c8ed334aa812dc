"""The wrappers: environments that take tasks and report results, and curricula made for several agents.

Imported as `macurr.wrappers`.
"""

if __name__ == "wrappers":
    raise ImportError(
        "This folder was imported as the top-level package 'wrappers', which would load every class twice, "
        "the second time under another name. Import it as 'macurr.wrappers'."
    )

from macurr.wrappers.aec import AECSyncWrapper
from macurr.wrappers.aec_opponent import AECOpponentWrapper
from macurr.wrappers.aec_tasks import AECSeedTaskWrapper, AECTaskWrapper
from macurr.wrappers.dual import DualCurriculumWrapper
from macurr.wrappers.gym import GymnasiumSyncWrapper
from macurr.wrappers.multiagent import (
    MultiagentIndependentCurriculumWrapper,
    MultiagentSharedCurriculumWrapper,
)
from macurr.wrappers.opponent import OpponentWrapper
from macurr.wrappers.ray import RaySyncWrapper
from macurr.wrappers.single_learner import SingleLearnerEnv
from macurr.wrappers.sync import MultiProcessingSyncWrapper, PettingZooSyncWrapper
from macurr.wrappers.tasks import (
    OptionsTaskWrapper,
    PettingZooTaskWrapper,
    ReinitTaskWrapper,
    SeedTaskWrapper,
    TaskWrapper,
)
from macurr.wrappers.vector import VectorSync

__all__ = [
    "AECOpponentWrapper",
    "AECSeedTaskWrapper",
    "AECSyncWrapper",
    "AECTaskWrapper",
    "DualCurriculumWrapper",
    "GymnasiumSyncWrapper",
    "MultiProcessingSyncWrapper",
    "MultiagentIndependentCurriculumWrapper",
    "MultiagentSharedCurriculumWrapper",
    "OpponentWrapper",
    "OptionsTaskWrapper",
    "PettingZooSyncWrapper",
    "PettingZooTaskWrapper",
    "RaySyncWrapper",
    "ReinitTaskWrapper",
    "SeedTaskWrapper",
    "SingleLearnerEnv",
    "TaskWrapper",
    "VectorSync",
]
