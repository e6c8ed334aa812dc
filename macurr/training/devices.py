"""Where tensors live."""

from __future__ import annotations

import torch

from macurr.errors import ConfigError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: "auto" for a GPU where there is one and the processor elsewhere, or what torch calls a device: "cpu",
            "cuda", "cuda:1".

    Returns:
        The device; "cuda" without a number becomes the current one's.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if _gpus() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device={name!r} is no device. Name one of auto, cpu, cuda, or cuda:0 and so on."
        ) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise ConfigError(
            f"device={name!r} cannot be used: this trainer runs on the processor and on CUDA. Name one of auto, cpu, "
            "cuda, or cuda:0 and so on."
        )
    return _cuda(name, device)


def _cuda(name: str, device: torch.device) -> torch.device:
    count = _gpus()
    if not count:
        raise ConfigError(
            f"device={name!r} cannot be used: torch {torch.__version__} finds no GPU here. Use device='auto' or 'cpu', "
            "or install a torch build for CUDA and a driver that fits."
        )
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= count:
        raise ConfigError(
            f"device={name!r} cannot be used: there are {count} GPUs here, numbered from 0. Name one of them."
        )
    return torch.device("cuda", index)


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
