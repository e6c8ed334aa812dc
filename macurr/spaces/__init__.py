"""Task spaces: the sets of tasks that curricula choose from.

A task has two forms. Curricula deal in the *encoded* form: an int for discrete spaces, an array for boxes, a
tuple of ints for multi-discrete spaces, a tuple or mapping for product spaces. Environments receive the
*decoded* form: the level's name, the option's value. Finite spaces number their tasks: `index` and `from_index`
translate between an encoded task and its position, so that a curriculum can keep its numbers in arrays.
"""

from macurr.spaces.base import TaskSpace
from macurr.spaces.box import BoxTaskSpace
from macurr.spaces.discrete import DiscreteTaskSpace, StratifiedDiscreteTaskSpace
from macurr.spaces.product import DictTaskSpace, MultiDiscreteTaskSpace, TupleTaskSpace

__all__ = [
    "BoxTaskSpace",
    "DictTaskSpace",
    "DiscreteTaskSpace",
    "MultiDiscreteTaskSpace",
    "StratifiedDiscreteTaskSpace",
    "TaskSpace",
    "TupleTaskSpace",
]
