"""What settings must be together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from macurr.errors import ConfigError

if TYPE_CHECKING:
    from macurr.training.config.tree import TrainConfig

__all__ = ["check_rules"]


def check_rules(config: TrainConfig) -> None:
    """Check the settings against each other.

    Raises:
        ConfigError: two do not go together.
    """
    for rule in (_workers, _engine, _splits, _recurrent, _mapping, _opponents, _critic, _population):
        rule(config)


def _workers(config: TrainConfig) -> None:
    if config.transport == "local" and config.workers != 1:
        raise ConfigError(
            f"transport='local' steps every environment in this process, so workers={config.workers} cannot be used: "
            "it must be 1. Raise envs_per_worker instead, or use transport='process'."
        )
    if config.worker_timeout is not None and (config.transport == "local" or config.engine == "ray"):
        where = "engine='ray'" if config.engine == "ray" else "transport='local'"
        raise ConfigError(
            f"worker_timeout={config.worker_timeout:g} is for worker processes of this machine, and {where} has none. "
            "Leave it out."
        )


def _engine(config: TrainConfig) -> None:
    if config.engine == "ray" and config.transport == "local":
        raise ConfigError(
            "engine='ray' starts workers on a cluster, and transport='local' has none. Use transport='process', or "
            "engine='processes'."
        )
    if config.ray_address is not None and config.engine != "ray":
        raise ConfigError(
            f"ray_address={config.ray_address!r} is for engine='ray', and engine is {config.engine!r}. Leave it out, "
            "or use engine='ray'."
        )


def _splits(config: TrainConfig) -> None:
    if config.splits is not None and config.envs_per_worker % config.splits:
        divisors = [n for n in range(1, config.envs_per_worker + 1) if config.envs_per_worker % n == 0]
        near = sorted(divisors, key=lambda n: abs(n - config.splits))[:2]  # type: ignore[operator]  # not None here
        raise ConfigError(
            f"splits={config.splits} cannot be used: it must divide envs_per_worker={config.envs_per_worker}, for "
            f"groups of one size. {' or '.join(map(str, sorted(near)))} would."
        )


def _recurrent(config: TrainConfig) -> None:
    ppo, kind = config.ppo, config.model.recurrent
    if kind == "none":
        return
    if ppo.rollout < 2:
        raise ConfigError(
            f"recurrent={kind!r} learns from what follows on each other, and rollout={ppo.rollout} is a single step. "
            "Raise rollout, or use recurrent='none'."
        )
    if ppo.batch_size is not None and ppo.batch_size % ppo.rollout:
        raise ConfigError(
            f"recurrent={kind!r} trains on whole rollouts, so batch_size={ppo.batch_size} cannot be used: it must be "
            f"a multiple of rollout={ppo.rollout}, such as {-(-ppo.batch_size // ppo.rollout) * ppo.rollout}."
        )


def _mapping(config: TrainConfig) -> None:
    count, mapping = config.policies.num_policies, config.policies.mapping
    if mapping == "shared" and count > 1:
        raise ConfigError(
            f"mapping='shared' lets one policy play everybody, so {count - 1} of num_policies={count} would never "
            "play. Use mapping 'env', 'random', 'role' or a function of your own, or num_policies=1."
        )
    if mapping == "env" and count > config.num_envs:
        raise ConfigError(
            f"mapping='env' gives every environment one policy, and with {config.num_envs} environments "
            f"{count - config.num_envs} of num_policies={count} would never play. Raise envs_per_worker, or lower "
            "num_policies."
        )
    if mapping == "role" and count == 1:
        raise ConfigError(
            "mapping='role' gives every role a policy of its own, and num_policies=1 is one for all. Set num_policies "
            "to the number of roles, or use mapping='shared'."
        )


def _opponents(config: TrainConfig) -> None:
    if config.opponents == "none" and config.curriculum == "joint":
        raise ConfigError(
            "curriculum='joint' draws a level and an opponent, and opponents='none' has nobody to draw. Use "
            "curriculum 'plr' or 'dr', or other opponents."
        )


def _critic(config: TrainConfig) -> None:
    if config.model.centralised_critic and config.opponents != "none" and config.policies.sides == "agent":
        raise ConfigError(
            "centralised_critic=True is for agents that learn together, and here one agent of an environment learns "
            f"while opponents={config.opponents!r} play the others. Use opponents='none' (all learn) or sides='role' "
            "(a team learns), or leave it out."
        )


def _population(config: TrainConfig) -> None:
    pbt, policies = config.pbt, config.policies
    if pbt.population is not None and not pbt.pbt:
        raise ConfigError(
            f"population={pbt.population!r} is for population-based training, which is off. Set pbt=True (--pbt), or "
            "leave population out."
        )
    if not pbt.pbt:
        return
    if policies.num_policies == 1 and pbt.population is None:
        raise ConfigError(
            "pbt=True compares policies, and num_policies=1 is one. Raise num_policies (with mapping 'random' or "
            "'env'), or name a directory that several runs share by population."
        )
    if policies.mapping == "role" and pbt.population is None:
        raise ConfigError(
            "pbt=True copies good policies over bad ones, and with mapping='role' each plays another part. Use mapping "
            "'random' or 'env', or share a directory with other runs by population."
        )
    if pbt.pbt_perturb_min > pbt.pbt_perturb_max:
        raise ConfigError(
            f"pbt_perturb_min={pbt.pbt_perturb_min} is above pbt_perturb_max={pbt.pbt_perturb_max}. Swap them."
        )
