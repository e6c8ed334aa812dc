"""An evaluator for policies with memory: it goes on where each stream of experience stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from macurr.errors import UsageError
from macurr.training.asking import CONTINUOUS, ModuleEvaluator, mapped, name_of, probabilities, values_of

__all__ = ["RecurrentTorchEvaluator"]

Floats = NDArray[np.float64]
State = Any
"""A tensor, or a nest of tuples of tensors, as torch's recurrent layers have it; the batch is the second dimension."""


class RecurrentTorchEvaluator(ModuleEvaluator):
    """Asks a torch module with memory, such as CleanRL's agents with an LSTM.

    It keeps the module's state for each stream: a batch that was cut in mid-episode is continued where the last one
    stopped, an episode that starts begins from the initial state. So it answers `answer`, which says whose the
    observations are, and neither `values` nor `action_distributions` alone. States are of the policy as it was when
    the observations came in, as in a rollout; they are no part of a curriculum's saved state, and a stream that is
    not known goes on from the initial state.

    What is asked, of `x` (T, ...), `state` and `done` (T,), which is 0 within an episode:

    - `forward(x, state, done)`, where one is passed: returns values (T,), logits (T, actions) and the state after
      x; values or logits may be None.
    - `get_action_and_value(x, state, done, action=...)`, whose fourth and last results are values and state; for
      probabilities once for each action.
    - of a policy without a known number of actions `get_value(x, state, done)` and `get_states(x, state, done)`,
      whose last result is the state.

    Args:
        module: The agent.
        forward: A function to ask instead.
        initial_state: The state at the start of an episode, for one stream: a tensor, a tuple of tensors, or a
            function that returns one. By default zeros for the one LSTM, GRU or RNN in the module.
        actions: As for `TorchEvaluator`, like the others.
        device: Where to put observations and states.
        dtype: What observations become.
        prepare: Maps raw observations to what is made tensors.
        switch_mode: Whether to switch to evaluation mode.

    Raises:
        UsageError: no module, or it has not exactly one recurrent layer and no initial state is given.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        forward: Callable[[Any, State, Tensor], tuple[Any, Any, State]] | None = None,
        initial_state: State | Callable[[], State] | None = None,
        actions: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        prepare: Callable[[Any], Any] | None = None,
        switch_mode: bool = True,
    ) -> None:
        super().__init__(module, actions, device, dtype, prepare, switch_mode)
        self._forward = forward
        self._initial = _zero_state(module) if initial_state is None else initial_state
        self._states: dict[Hashable, State] = {}

    @property
    def streams(self) -> int:
        """How many streams have an episode under way."""
        return len(self._states)

    @override
    def values(self, observations: Any) -> Floats:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise self._needs_stream("values")

    @override
    def action_distributions(self, observations: Any) -> Floats:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise self._needs_stream("action_distributions")

    @override
    def answer(
        self, questions: Collection[str], observations: Any, *, stream: Hashable, starts_episode: bool
    ) -> dict[str, Floats]:
        """Answer questions about a stream, and remember where it stopped.

        The state is kept only if all answers are finite, so that a batch that is refused changes nothing.

        Raises:
            UsageError: the module cannot answer.
        """
        n = len(observations)
        with self._inference():
            state = None if starts_episode else self._states.get(stream)
            state = self._fresh() if state is None else state
            x, done = self._input(observations), torch.zeros(n, device=self._place()[0])
            values, policy, state = self._advance(questions, x, state, done)
            found = {}
            if "values" in questions:
                found["values"] = values_of(self._given(values, "values"), n)
            if "action_distributions" in questions:
                found["action_distributions"] = probabilities(self._given(policy, "action_distributions"), n)
            if all(np.isfinite(rows).all() for rows in found.values()):
                self._states[stream] = state
        return found

    @override
    def forget(self, stream: Hashable) -> None:
        self._states.pop(stream, None)

    def _fresh(self) -> State:
        state = self._initial() if callable(self._initial) else self._initial
        device, _ = self._place()
        return mapped(lambda tensor: tensor.detach().to(device), state)

    def _advance(
        self, questions: Collection[str], x: Any, state: State, done: Tensor
    ) -> tuple[Any, Any, State]:
        agent: Any = self.module
        if self._forward is not None:
            return self._forward(x, state, done)
        if hasattr(agent, "get_action_and_value") and self._actions is not None:

            def ask(action: Tensor) -> Any:
                return agent.get_action_and_value(x, state, done, action=action)

            result = ask(self._action(len(done), 0))
            if len(result) < 5:
                raise UsageError(
                    f"{name_of(agent)}.get_action_and_value returns {len(result)} values; the fifth has to be the "
                    "state after the observations. Return it, or pass forward=."
                )
            asked = "action_distributions" in questions
            return result[3], self._log_probabilities(ask, len(done)) if asked else None, result[-1]
        if hasattr(agent, "get_value") and hasattr(agent, "get_states"):
            return agent.get_value(x, state, done), None, agent.get_states(x, state, done)[-1]
        raise UsageError(
            f"{name_of(agent)} has no get_action_and_value for a known number of actions, and not both get_value and "
            "get_states. Pass forward= (and actions= if there is a discrete policy)."
        )

    def _given(self, answer: Any, question: str) -> Any:
        if answer is None:
            raise UsageError(
                f"{name_of(self.module)} gives no {question}. Have forward return them. {CONTINUOUS}"
            )
        return answer

    def _needs_stream(self, question: str) -> UsageError:
        return UsageError(
            f"A policy with memory answers {question} by what came before. Ask answer([{question!r}], observations, "
            "stream=..., starts_episode=...)."
        )


def _zero_state(module: nn.Module) -> Callable[[], State]:
    layers = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    if len(layers) != 1:
        raise UsageError(
            f"{name_of(module)} has {len(layers)} recurrent layers (LSTM, GRU or RNN); the initial state is clear for "
            "one. Pass initial_state=."
        )
    layer = layers[0]
    depth = layer.num_layers * (2 if layer.bidirectional else 1)

    def zeros(width: int) -> Tensor:
        return torch.zeros(depth, 1, width, dtype=next(layer.parameters()).dtype)

    if isinstance(layer, nn.LSTM):
        return lambda: (zeros(layer.proj_size or layer.hidden_size), zeros(layer.hidden_size))
    return lambda: zeros(layer.hidden_size)
