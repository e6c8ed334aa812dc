"""Evaluators for the networks of others: torch modules as CleanRL writes them, and models of stable-baselines3."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from macurr.errors import UsageError
from macurr.evaluator import Evaluator
from macurr.training.asking import (
    CONTINUOUS,
    ModuleEvaluator,
    OneCaller,
    batched,
    evaluation_mode,
    name_of,
    probabilities,
    values_of,
)

__all__ = ["SB3Evaluator", "TorchEvaluator"]

Floats = NDArray[np.float64]
Which = str | Callable[[Any], Any]


class TorchEvaluator(ModuleEvaluator):
    """Asks a torch module without memory, such as an agent of CleanRL.

    It finds out by itself what to ask, in this order, or is told by name or function:

    | question               | asked                                                                         |
    |------------------------|-------------------------------------------------------------------------------|
    | `values`               | `get_value(x)`, `get_action_and_value(x, action=...)`, `critic(x)`             |
    | `action_distributions` | `get_action_and_value(x, action=...)` for each action in turn, `actor(x)`      |

    Asking for each action in turn is right for every agent, whatever stands before its actor, and samples nothing;
    where it takes too long, name what returns the logits in one go.

    Observations are what the environment gave, below all wrappers of the learner; `prepare` does to them what those
    do. They become tensors on the module's device, of the type of its parameters. Submodules that are in training
    mode are switched to evaluation mode for the time of a question and then back.

    A curriculum that is served from another thread (the multiprocessing transport) asks while training goes on. If
    the module has layers that tell training from evaluation, such as dropout, give the evaluator a copy and refresh
    that; if it has none, `switch_mode=False` keeps the evaluator's hands off.

    Args:
        module: The agent.
        values: What gives the estimates: the name of a method or submodule, or a function, of the input tensor.
        action_distributions: What gives the logits (n, actions), or a Categorical distribution, likewise.
        actions: The number of actions; by default the width of the last linear layer in `actor`.
        device: Where to put observations; by default where the module's first parameter is.
        dtype: What observations become; by default the type of that parameter. `torch.long` for embeddings.
        prepare: Maps raw observations to what is made tensors: arrays, mappings and tuples of arrays.
        switch_mode: Whether to switch to evaluation mode.

    Raises:
        UsageError: no module, or it lacks what was named.

    Example:
        >>> agent = nn.ModuleDict({"critic": nn.Linear(4, 1), "actor": nn.Linear(4, 3)})
        >>> evaluator = TorchEvaluator(agent, values=agent["critic"], action_distributions=agent["actor"])
        >>> evaluator.action_distributions(np.zeros((2, 4))).shape
        (2, 3)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        values: Which | None = None,
        action_distributions: Which | None = None,
        actions: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        prepare: Callable[[Any], Any] | None = None,
        switch_mode: bool = True,
    ) -> None:
        super().__init__(module, actions, device, dtype, prepare, switch_mode)
        self._value = None if values is None else _member(module, values, "values")
        self._policy = (
            None
            if action_distributions is None
            else _member(module, action_distributions, "action_distributions")
        )

    @override
    def values(self, observations: Any) -> Floats:
        """The estimates, as (n,).

        Raises:
            UsageError: the module has nothing that gives them, or it gave another number of them.
        """
        ask = self._value or self._found_value()
        with self._inference():
            return values_of(ask(self._input(observations)), len(observations))

    @override
    def action_distributions(self, observations: Any) -> Floats:
        """The probabilities, as (n, actions).

        Raises:
            UsageError: the module has nothing that gives them, its policy is continuous, or they do not sum to one.
        """
        with self._inference():
            x, n = self._input(observations), len(observations)
            if self._policy is not None:
                return probabilities(self._policy(x), n)
            agent: Any = self.module
            if hasattr(agent, "get_action_and_value"):
                return probabilities(
                    self._log_probabilities(lambda a: agent.get_action_and_value(x, action=a), n), n
                )
            if hasattr(agent, "actor"):
                return probabilities(agent.actor(x), n)
        raise UsageError(
            f"{name_of(self.module)} has neither get_action_and_value nor actor. Say by action_distributions= what "
            f"returns the logits. {CONTINUOUS}"
        )

    def _found_value(self) -> Callable[[Any], Any]:
        agent: Any = self.module
        if hasattr(agent, "get_value"):
            return agent.get_value  # type: ignore[no-any-return]
        if hasattr(agent, "get_action_and_value") and self._actions is not None:
            # An action is given, so that none is sampled: that would take from the learner's random numbers.
            return lambda x: agent.get_action_and_value(x, action=self._action(_length(x), 0))[3]
        if hasattr(agent, "critic"):
            return agent.critic  # type: ignore[no-any-return]
        raise UsageError(
            f"{name_of(agent)} has no get_value, no get_action_and_value for a known number of actions and no critic. "
            "Say by values= what returns the estimates."
        )


class SB3Evaluator(Evaluator):
    """Asks a model of stable-baselines3: PPO, A2C and whatever else has an actor-critic policy without memory.

    Observations are what the environment gave. If the model trains on a `VecNormalize`, they are normalised by its
    statistics as they are now; images become channels-first as SB3 does it.

    Args:
        model: The model.

    Raises:
        UsageError: its policy has no critic of observations (DQN, SAC) or has memory (RecurrentPPO).
    """

    def __init__(self, model: Any) -> None:
        policy = getattr(model, "policy", None)
        if not hasattr(policy, "predict_values") or not hasattr(policy, "get_distribution"):
            raise UsageError(
                f"SB3Evaluator needs a model with an actor-critic policy, such as PPO or A2C; got {model!r}. For "
                "others, pass FunctionEvaluator(values=...)."
            )
        if hasattr(policy, "lstm_actor"):
            raise UsageError(
                "This policy has memory. Pass RecurrentTorchEvaluator(model.policy, forward=..., initial_state=...)."
            )
        self._model = model
        self._lock = OneCaller()

    @override
    def values(self, observations: Any) -> Floats:
        """The estimates, as (n,).

        Raises:
            UsageError: the policy gave another number of them.
        """
        with self._inference():
            return values_of(self._model.policy.predict_values(self._input(observations)), len(observations))

    @override
    def action_distributions(self, observations: Any) -> Floats:
        """The probabilities, as (n, actions).

        Raises:
            UsageError: the action space is not discrete.
        """
        with self._inference():
            found = self._model.policy.get_distribution(self._input(observations)).distribution
            return probabilities(found, len(observations))

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with self._lock, torch.no_grad(), evaluation_mode(self._model.policy):
            yield

    def _input(self, observations: Any) -> Any:
        observations = batched(observations)
        normalizing = self._model.get_vec_normalize_env()
        if normalizing is not None:
            observations = normalizing.normalize_obs(observations)
        return self._model.policy.obs_to_tensor(observations)[0]


def _length(nest: Any) -> int:
    while isinstance(nest, Mapping | tuple):
        nest = next(iter(nest.values())) if isinstance(nest, Mapping) else nest[0]
    return len(nest)


def _member(module: nn.Module, which: Which, option: str) -> Callable[[Any], Any]:
    found = getattr(module, which, None) if isinstance(which, str) else which
    if not callable(found):
        raise UsageError(
            f"{option}={which!r} must be a function of the observations, or the name of a method or submodule of "
            f"{name_of(module)}."
        )
    member: Callable[[Any], Any] = found
    return member
