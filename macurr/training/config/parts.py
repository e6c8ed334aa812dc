"""The parts of a run's settings."""

from __future__ import annotations

from dataclasses import dataclass

from macurr.training.checks import FLAG, NAMES, SIZES, TEXT, choice, one_of, optional, real, whole
from macurr.training.config.fields import described, setting

__all__ = [
    "MAPPINGS",
    "RECURRENT",
    "SIDES",
    "CurriculumConfig",
    "EvaluationConfig",
    "ModelConfig",
    "PBTConfig",
    "PPOConfig",
    "PoliciesConfig",
]

RECURRENT = ("none", "lstm", "gru")
MAPPINGS = ("shared", "env", "random", "role")
SIDES = ("agent", "role")
OBJECTIVES = ("learner_return", "win_rate", "true_objective")


@described
@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al., 2017)."""

    learning_rate: float = setting(1e-3, real(0, above=True), "Adam's step size at the start")
    anneal: bool = setting(
        True,
        FLAG,
        "lower the step size linearly to a tenth over the run's steps, or over its minutes where only those are given",
    )
    gamma: float = setting(0.97, real(0, 1), "discount")
    gae_lambda: float = setting(0.95, real(0, 1), "trace decay of the generalised advantage estimates")
    clip: float = setting(0.2, real(0, above=True), "clipping range of the probability ratio")
    value_clip: float | None = setting(
        None,
        optional(real(0, above=True)),
        "clipping range of the value's change in an update",
        default_text="off",
    )
    entropy: float = setting(0.01, real(0), "weight of the entropy bonus")
    value: float = setting(0.5, real(0), "weight of the value loss")
    max_grad_norm: float = setting(0.5, real(0, above=True), "largest norm of a gradient")
    epochs: int = setting(4, whole(1), "passes over each batch")
    minibatches: int = setting(4, whole(1), "gradient steps of a pass")
    batch_size: int | None = setting(
        None,
        optional(whole(1)),
        "samples of one minibatch, per policy; minibatches times as many are collected for an update",
        default_text="what one rollout of every environment gives",
    )
    rollout: int = setting(64, whole(1), "steps that each environment plays for a batch")
    target_kl: float | None = setting(
        None,
        optional(real(0, above=True)),
        "stop an update's passes once the policy has moved this far, in nats",
        default_text="off",
    )


@described
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network of a policy."""

    hidden: tuple[int, ...] = setting(
        (128, 128), SIZES, "units of the hidden layers, of actor and critic each"
    )
    recurrent: str = setting("none", choice(*RECURRENT), "memory between the steps of an episode")
    recurrent_size: int = setting(128, whole(1), "units of that memory")
    centralised_critic: bool = setting(
        False,
        FLAG,
        "let the critic see the observations of all agents (MAPPO); the actor sees its own as ever",
    )
    normalize_observations: bool = setting(
        False, FLAG, "scale observations by their running mean and variance"
    )
    normalize_returns: bool = setting(
        False, FLAG, "train the critic on returns scaled by their running mean and variance"
    )


@described
@dataclass(frozen=True, kw_only=True)
class PoliciesConfig:
    """How many policies are trained, and which plays which agent."""

    num_policies: int = setting(1, whole(1, 1024), "policies that are trained side by side")
    mapping: str = setting(
        "shared",
        one_of(*MAPPINGS, function="a function (agent, env, episode, rng) -> policy"),
        "which policy plays an agent: shared (one for all), env (one for all agents of an environment), random "
        "(drawn for each agent), role (one for each kind of agent), or module:function of your own",
        metavar="NAME",
    )
    mapping_episodes: int = setting(
        10, whole(1), "mapping random: episodes of an environment between two draws"
    )
    sides: str = setting(
        "agent",
        choice(*SIDES),
        "who learns together against past selves: every agent by itself, or those of one role, whose names share the "
        'part before the last "_<number>"',
    )


@described
@dataclass(frozen=True, kw_only=True)
class PBTConfig:
    """Population-based training (Jaderberg et al., 2017; the defaults of Sample Factory)."""

    pbt: bool = setting(
        False, FLAG, "replace the worst policies by copies of the best, and mutate hyper-parameters"
    )
    pbt_period: int = setting(
        5_000_000, whole(1), "environment steps of the run, all policies together, between two rounds of it"
    )
    pbt_start: int = setting(20_000_000, whole(0), "environment steps of the run before the first round")
    pbt_replace_fraction: float = setting(
        0.3, real(0, 1), "share of the policies, rounded up, that may be replaced, and that may be copied"
    )
    pbt_mutation_rate: float = setting(0.15, real(0, 1), "chance that a hyper-parameter is mutated")
    pbt_replace_gap: float = setting(
        0.1,
        real(0),
        "least lead for a replacement, as a share of the larger of the two objectives, signs aside",
    )
    pbt_replace_gap_absolute: float = setting(1e-6, real(0), "least lead for a replacement")
    pbt_perturb_min: float = setting(1.1, real(1), "least factor of a mutation")
    pbt_perturb_max: float = setting(1.5, real(1), "largest factor of a mutation")
    pbt_reset_rate: float = setting(
        0.01, real(0, 1), "chance that a mutation goes back to the run's own setting instead"
    )
    pbt_gamma: bool = setting(False, FLAG, "mutate the discount too")
    pbt_objective: str = setting(
        "learner_return",
        one_of(*OBJECTIVES, function="an objective of your own"),
        "what the best policy is best at: learner_return, win_rate, true_objective (what the environment says of it in "
        "infos), or module:function of your own",
        metavar="NAME",
    )
    pbt_env_args: tuple[str, ...] = setting(
        (),
        NAMES,
        "arguments of the environment to mutate too, such as weights of its rewards; the run gives their first values "
        "(env_args)",
        default_text="none",
    )
    population: str | None = setting(
        None,
        optional(TEXT),
        "directory that runs of one population share; each is started with the same one",
        default_text="this run alone",
        metavar="DIR",
    )


@described
@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Which levels and which opponents episodes are about."""

    levels: int = setting(
        2000, whole(1, 1_000_000), "training levels, the seeds from 0; evaluation uses seeds beyond"
    )
    score: str = setting(
        "value_l1",
        TEXT,
        "how PLR scores a level from the learner's episode: value_l1, signed_value_loss, positive_value_loss, max_mc, "
        "grounded_positive_value_loss or learnability",
        metavar="NAME",
    )
    temperature: float = setting(
        1.0, real(0, above=True), "PLR: the lower, the more the ranks of the highest scores count"
    )
    staleness_coef: float = setting(
        0.1, real(0, 1), "PLR: share of levels chosen for not having been played lately"
    )
    replay_prob: float = setting(0.5, real(0, 1), "PLR: share of levels that are replayed")
    snapshot_every: int = setting(5, whole(1), "updates between two snapshots of the policy")
    capacity: int = setting(12, whole(2), "most snapshots in the pool")


@described
@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is played when training has ended."""

    seeds: int = setting(
        200, whole(1), "held-out levels, each played from every seat against every opponent", changeable=True
    )
    matrix_seeds: int = setting(
        20, whole(1), "held-out levels of each pair of snapshots in the result matrix", changeable=True
    )
    report: bool = setting(True, FLAG, "write the report", changeable=True)
