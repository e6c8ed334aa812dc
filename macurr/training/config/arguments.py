"""What the arguments of the environment must be where a population tunes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from macurr.errors import ConfigError

if TYPE_CHECKING:
    from macurr.training.config.tree import TrainConfig

__all__ = ["check_arguments"]


def check_arguments(config: TrainConfig) -> None:
    """Check `pbt_env_args` against the other settings.

    Raises:
        ConfigError: they do not go together.
    """
    names, policies = config.pbt.pbt_env_args, config.policies
    if not names:
        return
    if not config.pbt.pbt:
        raise ConfigError(
            f"pbt_env_args={','.join(names)!r} is for population-based training, which is off. Set pbt=True (--pbt), "
            "or leave it out."
        )
    for name in names:
        if not _is_tunable(config.env_args.get(name)):
            given = f"is {config.env_args[name]!r}" if name in config.env_args else "has no value"
            raise ConfigError(
                f"pbt_env_args names {name!r}, which {given} in env_args: what is mutated by factors begins with a "
                f"number other than 0. Give it by --env-arg {name}=..."
            )
    if policies.num_policies > 1 and policies.mapping not in ("env", "role"):
        raise ConfigError(
            f"pbt_env_args={','.join(names)!r} gives each policy arguments of its own, and with "
            f"mapping={policies.mapping!r} policies share environments. Use mapping='env', or tune runs that share a "
            "directory (population) instead of policies."
        )


def _is_tunable(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value != 0 and math.isfinite(value)
