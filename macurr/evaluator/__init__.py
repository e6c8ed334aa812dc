"""What a curriculum may ask of a policy, and how to find out: by its networks, or by having it play."""

from macurr.evaluator.background import BackgroundEvaluation
from macurr.evaluator.base import Evaluator, FunctionEvaluator
from macurr.evaluator.playing import Seat, TaskEvaluator, TaskSuccess

__all__ = [
    "BackgroundEvaluation",
    "Evaluator",
    "FunctionEvaluator",
    "Seat",
    "TaskEvaluator",
    "TaskSuccess",
]
