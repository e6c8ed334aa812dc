"""What a curriculum is: it hands out tasks, and learns from what came of them."""

from macurr.curriculum.base import Curriculum
from macurr.curriculum.states import State, check_state
from macurr.curriculum.wrapper import CurriculumWrapper

__all__ = ["Curriculum", "CurriculumWrapper", "State", "check_state"]
