"""What a population does to learners: it reads what is tuned, and gives them other weights and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from macurr.training.population_rules import Settings
from macurr.training.ppo import PPO
from macurr.training.tuned import ARGUMENTS

__all__ = ["PopulationLearner", "known_numbers", "set_numbers", "take_over"]


class PopulationLearner(Protocol):
    """What a population asks of the learner."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while policies are trained."""

    @property
    def ppos(self) -> Sequence[PPO]:
        """The learner of each policy."""

    def replaced(self, policy: int) -> None:
        """A policy's weights are another's now: what the old ones have played must not train them."""


def take_over(ppo: PPO, source: Mapping[str, Any]) -> None:
    """Give a learner another's weights and moments; its settings and its count of steps stay.

    Args:
        ppo: The learner.
        source: The other's state.
    """
    own = ppo.state_dict()
    ppo.load_state_dict({**source, "settings": own["settings"], "sgd_steps": own["sgd_steps"]})


def known_numbers(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Those of another run's settings that it has switched on.

    Args:
        settings: The settings, None where one is off.
        names: Which of them are tuned.
    """
    return {name: settings[name] for name in names if settings[name] is not None}


def set_numbers(ppo: PPO, settings: Settings) -> None:
    """Set what is tuned of a learner; arguments of environments are not the learner's, and are passed over.

    Args:
        ppo: The learner.
        settings: The settings by name.
    """
    for name, value in settings.items():
        if not name.startswith(ARGUMENTS):
            setattr(ppo.settings, name, float(value))
