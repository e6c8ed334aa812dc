"""What evaluators of torch modules share: observations in, numbers out, and the module left as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Categorical

from macurr.errors import UsageError
from macurr.evaluator import Evaluator

__all__ = [
    "CONTINUOUS",
    "ModuleEvaluator",
    "OneCaller",
    "batched",
    "evaluation_mode",
    "mapped",
    "name_of",
    "probabilities",
    "values_of",
]

Floats = NDArray[np.float64]

CONTINUOUS = "A continuous policy has no action probabilities: choose a strategy that needs values only."
"""What to do where probabilities cannot be had, for the end of a message."""

_ROUNDING = 1e-3
"""How far from 1 float32 or half precision may take a sum of probabilities."""


class OneCaller:
    """A lock that copies and pickles with what it protects, as one that nobody holds."""

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> Any:
        return OneCaller, ()


class ModuleEvaluator(Evaluator):
    """Observations in, tensors out; the module is left as it was found."""

    def __init__(
        self,
        module: nn.Module,
        actions: int | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        prepare: Callable[[Any], Any] | None,
        switch_mode: bool,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise UsageError(f"{type(self).__name__} needs a torch.nn.Module; got {module!r}.")
        if actions is not None and actions < 1:
            raise UsageError(f"actions must be the number of the policy's actions; got {actions!r}.")
        self.module = module
        self._actions = _last_width(getattr(module, "actor", None)) if actions is None else actions
        self._device, self._dtype = device, dtype
        self._prepare, self._switch_mode = prepare, switch_mode
        self._lock = OneCaller()

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, and evaluation mode, for one caller at a time."""
        with self._lock, torch.no_grad(), evaluation_mode(self.module if self._switch_mode else None):
            yield

    def _place(self) -> tuple[torch.device, torch.dtype]:
        """Where observations go and what they become: asked each time, for modules can be moved."""
        first = next((p for p in self.module.parameters() if p.is_floating_point()), torch.empty(0))
        return torch.device(self._device or first.device), self._dtype or first.dtype

    def _input(self, observations: Any) -> Any:
        if self._prepare is not None:
            observations = self._prepare(observations)
        return _tensors(observations, *self._place())

    def _action(self, n: int, action: int) -> Tensor:
        return torch.full((n,), action, dtype=torch.long, device=self._place()[0])

    def _log_probabilities(self, ask: Callable[[Tensor], Any], n: int) -> Tensor:
        """(n, actions), from what `get_action_and_value` says of each action in turn; nothing is sampled.

        Raises:
            UsageError: nobody knows how many actions there are, or their probabilities do not sum to one.
        """
        if self._actions is None:
            raise UsageError(
                f"{type(self).__name__} does not know how many actions {name_of(self.module)} has. Pass actions=, or "
                f"name what returns the logits. {CONTINUOUS}"
            )
        found = torch.stack([ask(self._action(n, a))[1].reshape(n) for a in range(self._actions)], 1)
        if (found.logsumexp(1).abs() > _ROUNDING).any():
            raise UsageError(
                f"The probabilities of {self._actions} actions sum to {found.exp().sum(1).tolist()}, not to one. "
                f"Pass the right number as actions=. {CONTINUOUS}"
            )
        return found


@contextmanager
def evaluation_mode(module: nn.Module | None) -> Iterator[None]:
    """Evaluation mode for the time of a `with` block; then everything is as it was."""
    # One by one, for parts of a module may be in evaluation mode while it trains.
    training = [] if module is None else [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def batched(observations: Any) -> Any:
    """A list of observations as a batch: an array, or mappings and tuples of arrays."""
    if isinstance(observations, np.ndarray) and not observations.flags.writeable:
        return observations.copy()  # torch warns of those that were received in a message
    if not isinstance(observations, list):
        return observations
    first = observations[0]
    if isinstance(first, Mapping):
        return {key: batched([seen[key] for seen in observations]) for key in first}
    if isinstance(first, tuple):
        return tuple(batched(list(column)) for column in zip(*observations, strict=True))
    return np.stack([np.asarray(seen) for seen in observations])


def _tensors(observations: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return mapped(lambda part: torch.as_tensor(part).to(device, dtype), batched(observations))


def mapped(function: Callable[[Any], Any], nest: Any) -> Any:
    """The nest of mappings and tuples with a function applied to what is in it."""
    if isinstance(nest, Mapping):
        return {key: mapped(function, part) for key, part in nest.items()}
    return tuple(mapped(function, part) for part in nest) if isinstance(nest, tuple) else function(nest)


def values_of(answer: Any, n: int) -> Floats:
    """One value for each of n observations.

    Raises:
        UsageError: there are other than n.
    """
    found = torch.as_tensor(answer)
    if found.numel() != n:
        raise UsageError(
            f"The critic returned an array of shape {tuple(found.shape)} for {n} observations. Have it return one "
            "value for each."
        )
    return _numpy(found).reshape(n)


def probabilities(answer: Any, n: int) -> Floats:
    """Rows of probabilities, of logits (n, actions), normalised or not, or of a Categorical distribution.

    Raises:
        UsageError: it is another distribution, or there are other than n rows.
    """
    if isinstance(answer, Categorical):
        answer = answer.logits
    if not isinstance(answer, Tensor):
        raise UsageError(
            f"The policy's distribution is a {type(answer).__name__}, not a Categorical or logits of one. {CONTINUOUS}"
        )
    if answer.ndim != 2 or len(answer) != n:
        raise UsageError(
            f"The policy returned logits of shape {tuple(answer.shape)} for {n} observations. Have it return one row "
            "for each."
        )
    return _numpy(answer.detach().cpu().double().softmax(1))


def _numpy(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().cpu().double().numpy()
    return array


def _last_width(actor: Any) -> int | None:
    layers: list[Any] = list(actor.modules()) if isinstance(actor, nn.Module) else []
    widths = [int(layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    return widths[-1] if widths else None


def name_of(module: nn.Module) -> str:
    """What to call a module in a message."""
    return type(module).__name__
