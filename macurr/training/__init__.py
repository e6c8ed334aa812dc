"""The reference trainer: PPO with self-play and level replay for PettingZoo Parallel environments.

Needs the extra `train`. Ten lines of it:

```python
from macurr.training import TrainConfig, train

result = train(TrainConfig(env="macurr.envs.apple_race_v0", steps=200_000, out="runs/apples"))
print(result.table())
```

Everything that it knows about curricula goes through macurr's public names. Worker processes step environments
and import neither torch nor Ray; this module imports nothing heavy until one of its names is asked for.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING
from typing import Any as _Any

from macurr.errors import MissingDependencyError as _MissingDependencyError
from macurr.training.config import (
    CurriculumConfig,
    EvaluationConfig,
    ModelConfig,
    PBTConfig,
    PoliciesConfig,
    PPOConfig,
    TrainConfig,
)

if TYPE_CHECKING:
    from macurr.training.comparison import Comparison, compare
    from macurr.training.crossplay import tournament
    from macurr.training.display import make_display
    from macurr.training.evaluation import Evaluation, evaluate
    from macurr.training.evaluators import SB3Evaluator, TorchEvaluator
    from macurr.training.policy import Policy
    from macurr.training.population import Decision, Population
    from macurr.training.population_history import read_history
    from macurr.training.ppo import PPO
    from macurr.training.recurrent import RecurrentTorchEvaluator
    from macurr.training.report import write_report
    from macurr.training.runner import resume, train
    from macurr.training.status import Listener, Status, TrainResult
    from macurr.training.tournament_result import Entry, Tournament
    from macurr.training.trained import TrainedPolicy, load_policy

__all__ = [
    "PPO",
    "Comparison",
    "CurriculumConfig",
    "Decision",
    "Entry",
    "Evaluation",
    "EvaluationConfig",
    "Listener",
    "ModelConfig",
    "PBTConfig",
    "PPOConfig",
    "PoliciesConfig",
    "Policy",
    "Population",
    "RecurrentTorchEvaluator",
    "SB3Evaluator",
    "Status",
    "TorchEvaluator",
    "Tournament",
    "TrainConfig",
    "TrainResult",
    "TrainedPolicy",
    "compare",
    "evaluate",
    "load_policy",
    "make_display",
    "read_history",
    "resume",
    "tournament",
    "train",
    "write_report",
]

_WHERE = {
    "PPO": "ppo",
    "Policy": "policy",
    "Comparison": "comparison",
    "compare": "comparison",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "RecurrentTorchEvaluator": "recurrent",
    "SB3Evaluator": "evaluators",
    "TorchEvaluator": "evaluators",
    "Listener": "status",
    "Status": "status",
    "TrainResult": "status",
    "Decision": "population",
    "Population": "population",
    "read_history": "population_history",
    "resume": "runner",
    "make_display": "display",
    "train": "runner",
    "Entry": "tournament_result",
    "Tournament": "tournament_result",
    "TrainedPolicy": "trained",
    "load_policy": "trained",
    "tournament": "crossplay",
    "write_report": "report",
}
_EXTRA = ("PIL", "filelock", "jinja2", "matplotlib", "rich", "tensorboard", "torch", "yaml")


def __getattr__(name: str) -> _Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _WHERE[name] == "runner":
        # A run needs all of the extra. What is missing is told before torch is loaded, which takes seconds.
        missing = next((package for package in _EXTRA if _find_spec(package) is None), None)
        if missing is not None:
            raise _MissingDependencyError.for_extra(missing, "train", f"macurr.training.{name}")
    try:
        return getattr(_import_module(f"{__name__}.{_WHERE[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise _MissingDependencyError.for_extra(package, "train", f"macurr.training.{name}") from error
