"""macurr: a PettingZoo-first multi-agent curriculum toolkit.

A curriculum decides what the next episode is about: the level, the opponent, the parameters. Environments send
PettingZoo-format updates to one curriculum and fetch their next task at each reset.
"""

from pathlib import Path as _Path

# `curricula` and `wrappers` stand beside this package in the repository. Installed, they are folders in it; in a
# checkout, links; where links are not to be had (Windows, zip archives), the root of the repository is searched.
if not (_Path(__file__).parent / "curricula" / "__init__.py").is_file():
    __path__.append(str(_Path(__file__).parent.parent))

__version__ = "0.1.0"

from macurr.curriculum import Curriculum, CurriculumWrapper
from macurr.errors import (
    BacklogError,
    ConfigError,
    CurriculumError,
    CurriculumLost,
    MacurrError,
    MissingDependencyError,
    PoolError,
    SolverError,
    StateError,
    TaskError,
    TaskTimeoutError,
    TrainingError,
    TransportError,
    UsageError,
    WorkerLost,
)
from macurr.evaluator import (
    BackgroundEvaluation,
    Evaluator,
    FunctionEvaluator,
    Seat,
    TaskEvaluator,
    TaskSuccess,
)
from macurr.host import CurriculumHost
from macurr.messages import EnvSpec, EpisodeAborted, EpisodeResult, StepBatch, TaskProgress
from macurr.spaces import (
    BoxTaskSpace,
    DictTaskSpace,
    DiscreteTaskSpace,
    MultiDiscreteTaskSpace,
    StratifiedDiscreteTaskSpace,
    TaskSpace,
    TupleTaskSpace,
)
from macurr.statistics import StatRecorder
from macurr.transports.local import make_local_curriculum
from macurr.transports.process import make_multiprocessing_curriculum
from macurr.transports.ray import make_ray_curriculum

__all__ = [
    "BackgroundEvaluation",
    "BacklogError",
    "BoxTaskSpace",
    "ConfigError",
    "Curriculum",
    "CurriculumError",
    "CurriculumHost",
    "CurriculumLost",
    "CurriculumWrapper",
    "DictTaskSpace",
    "DiscreteTaskSpace",
    "EnvSpec",
    "EpisodeAborted",
    "EpisodeResult",
    "Evaluator",
    "FunctionEvaluator",
    "MacurrError",
    "MissingDependencyError",
    "MultiDiscreteTaskSpace",
    "PoolError",
    "Seat",
    "SolverError",
    "StatRecorder",
    "StateError",
    "StepBatch",
    "StratifiedDiscreteTaskSpace",
    "TaskError",
    "TaskEvaluator",
    "TaskProgress",
    "TaskSpace",
    "TaskSuccess",
    "TaskTimeoutError",
    "TrainingError",
    "TransportError",
    "TupleTaskSpace",
    "UsageError",
    "WorkerLost",
    "make_local_curriculum",
    "make_multiprocessing_curriculum",
    "make_ray_curriculum",
]
