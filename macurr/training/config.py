"""The settings of a training run: one tree of frozen dataclasses, checked, and saved with the run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from macurr.errors import ConfigError
from macurr.training.checks import TEXT, Check, choice, instance, optional, real, whole

__all__ = [
    "CURRICULA",
    "DEFAULT_MINUTES",
    "DEFAULT_STEPS",
    "FORMAT_VERSION",
    "OPPONENTS",
    "TRANSPORTS",
    "CurriculumConfig",
    "EvaluationConfig",
    "PPOConfig",
    "TrainConfig",
]

FORMAT_VERSION = 1
"""The version of a run directory. A run of another version is refused, not misread."""

CURRICULA = ("plr", "dr", "joint")
OPPONENTS = ("pfsp", "fsp", "self")
TRANSPORTS = ("process", "local")

DEFAULT_STEPS = 1_000_000
"""Environment steps of a run for which neither steps nor minutes are given."""
DEFAULT_MINUTES = 3.0
"""Most minutes of training of a run for which neither steps nor minutes are given."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al., 2017).

    Attributes:
        learning_rate: Adam's step size at the start.
        anneal: Lower the step size linearly to a tenth over the run's steps; without a number of steps it stays.
        gamma: Discount.
        gae_lambda: Trace decay of the generalised advantage estimates.
        clip: Clipping range of the probability ratio.
        value_clip: Clipping range of the value's change in an update; None does not clip.
        entropy: Weight of the entropy bonus.
        value: Weight of the value loss.
        max_grad_norm: Largest norm of a gradient.
        epochs: Passes over each batch.
        minibatches: Parts of a batch, one gradient step each.
        rollout: Steps that each environment plays for a batch.
        hidden: Units of the hidden layers, of actor and critic each.
        target_kl: Stop an update's epochs early once the policy has moved this far (in nats); None never does.
    """

    learning_rate: float = 1e-3
    anneal: bool = True
    gamma: float = 0.97
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float | None = None
    entropy: float = 0.01
    value: float = 0.5
    max_grad_norm: float = 0.5
    epochs: int = 4
    minibatches: int = 4
    rollout: int = 64
    hidden: tuple[int, ...] = (128, 128)
    target_kl: float | None = None


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Which levels and which opponents episodes are about.

    Attributes:
        levels: Number of training levels: the seeds 0 to levels - 1. Evaluation uses seeds beyond.
        score: How PLR scores a level from the learner's episode: a strategy of `PrioritizedLevelReplay`, one of
            value_l1, signed_value_loss, positive_value_loss, max_mc, grounded_positive_value_loss, learnability.
        temperature: PLR's temperature of the ranks of the scores.
        staleness_coef: PLR's share of levels chosen for not having been played lately.
        replay_prob: PLR's share of replayed levels.
        snapshot_every: Updates between two snapshots of the policy.
        capacity: Most snapshots that are kept.
    """

    levels: int = 2000
    score: str = "value_l1"
    temperature: float = 1.0
    staleness_coef: float = 0.1
    replay_prob: float = 0.5
    snapshot_every: int = 5
    capacity: int = 12


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is played when training has ended.

    Attributes:
        seeds: Held-out seeds; each is played once from every seat against every opponent.
        matrix_seeds: Held-out seeds of each pair of snapshots in the result matrix, from both seats.
        report: Whether to draw report.png.
    """

    seeds: int = 200
    matrix_seeds: int = 20
    report: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a training run is determined by.

    Attributes:
        env: Import path of a PettingZoo Parallel environment: a module with `parallel_env`, or `module:callable`.
        env_args: Keywords for it.
        curriculum: "plr" (prioritized level replay), "dr" (uniform levels), or "joint" (level replay for each
            opponent, and mostly the opponent on whose levels the scores are highest: MAESTRO).
        opponents: "pfsp" (prioritized fictitious self-play), "fsp" (uniform over the past), or "self" (the latest).
            With "joint" it draws every tenth opponent only.
        seed: Seed of everything random.
        steps: Environment steps to train for; None for no bound.
        minutes: Minutes to train for; None for no bound. Whichever bound comes first ends the training; without
            either, a run is `DEFAULT_STEPS` long and at most `DEFAULT_MINUTES`.
        workers: Processes that step environments.
        envs_per_worker: Environments in each.
        transport: "process", or "local" for everything in this process, which repeats exactly.
        threads: Threads of torch. More than one only helps large networks on a machine that has nothing else to do.
        out: The run's directory; None for runs/<env>-<date-time>.
        ppo: The learner.
        tasks: The curriculum.
        evaluation: What is played at the end.

    Raises:
        ConfigError: a setting is not of its type or out of its range; the message says which and why.
    """

    env: str = "macurr.envs.apple_race_v0"
    env_args: Mapping[str, Any] = field(default_factory=dict)
    curriculum: str = "plr"
    opponents: str = "pfsp"
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    workers: int = 2
    envs_per_worker: int = 64
    transport: str = "process"
    threads: int = 1
    out: str | None = None
    ppo: PPOConfig = field(default_factory=PPOConfig)
    tasks: CurriculumConfig = field(default_factory=CurriculumConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        _check_tree(self)
        _check_batch(self)

    @property
    def num_envs(self) -> int:
        """Environments in all."""
        return self.workers * self.envs_per_worker

    @property
    def batch(self) -> int:
        """Environment steps of an update."""
        return self.num_envs * self.ppo.rollout

    @property
    def max_steps(self) -> int | None:
        """The bound on environment steps, or None."""
        return DEFAULT_STEPS if self.steps is None and self.minutes is None else self.steps

    @property
    def max_minutes(self) -> float | None:
        """The bound on minutes of training, or None."""
        return DEFAULT_MINUTES if self.steps is None and self.minutes is None else self.minutes

    def to_json(self) -> str:
        """The settings as a JSON text, with the version of their format."""
        return json.dumps({"macurr_run": FORMAT_VERSION, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "the settings") -> TrainConfig:
        """The settings from `to_json`.

        Args:
            text: The text.
            where: Where it came from, for errors.

        Raises:
            ConfigError: it is no such text, of another version, or holds a setting that does not exist.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where} is not JSON ({error}). Start a new run.") from error
        if not isinstance(data, dict) or "macurr_run" not in data:
            raise ConfigError(f"{where} is not the configuration of a macurr run. Name a run's directory.")
        version = data.pop("macurr_run")
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"{where} is of run format {version!r}; this macurr reads format {FORMAT_VERSION}. Use the version of "
                "macurr that made the run, or start a new one."
            )
        config: TrainConfig = _build(cls, data, where)
        return config


_CHECKS: dict[str, Check] = {
    "env": TEXT,
    "env_args": (
        lambda v: isinstance(v, Mapping) and all(isinstance(k, str) for k in v),
        "a mapping of keywords",
    ),
    "curriculum": choice(*CURRICULA),
    "opponents": choice(*OPPONENTS),
    "seed": whole(0),
    "steps": optional(whole(1)),
    "minutes": optional(real(0, above=True)),
    "workers": whole(1, 256),
    "envs_per_worker": whole(1),
    "transport": choice(*TRANSPORTS),
    "threads": whole(1),
    "out": optional(TEXT),
    "learning_rate": real(0, above=True),
    "anneal": instance(bool, "True or False"),
    "gamma": real(0, 1),
    "gae_lambda": real(0, 1),
    "clip": real(0, above=True),
    "value_clip": optional(real(0, above=True)),
    "entropy": real(0),
    "value": real(0),
    "max_grad_norm": real(0, above=True),
    "epochs": whole(1),
    "minibatches": whole(1),
    "rollout": whole(1),
    "hidden": (
        lambda v: isinstance(v, tuple) and bool(v) and all(isinstance(n, int) and n > 0 for n in v),
        "a tuple of positive whole numbers",
    ),
    "target_kl": optional(real(0, above=True)),
    "levels": whole(1, 1_000_000),
    "score": TEXT,
    "temperature": real(0, above=True),
    "staleness_coef": real(0, 1),
    "replay_prob": real(0, 1),
    "snapshot_every": whole(1),
    "capacity": whole(2),
    "seeds": whole(1),
    "matrix_seeds": whole(1),
    "report": instance(bool, "True or False"),
    "ppo": instance(PPOConfig, "a PPOConfig"),
    "tasks": instance(CurriculumConfig, "a CurriculumConfig"),
    "evaluation": instance(EvaluationConfig, "an EvaluationConfig"),
}


def _check_tree(config: Any) -> None:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        holds, wanted = _CHECKS[item.name]
        if not holds(value):
            raise ConfigError(f"{item.name}={value!r} cannot be used: it must be {wanted}.")
        if dataclasses.is_dataclass(value):
            _check_tree(value)


def _check_batch(config: TrainConfig) -> None:
    if config.transport == "local" and config.workers != 1:
        raise ConfigError(
            f"transport='local' steps every environment in this process, so workers={config.workers} cannot be used: "
            "it must be 1. Raise envs_per_worker instead, or use transport='process'."
        )
    if config.num_envs * config.ppo.rollout < config.ppo.minibatches:
        raise ConfigError(
            f"{config.workers} workers x {config.envs_per_worker} environments x {config.ppo.rollout} steps make a "
            f"batch of {config.batch}, too small for minibatches={config.ppo.minibatches}. Lower minibatches, or raise "
            "rollout."
        )


_PARTS: dict[str, type] = {"ppo": PPOConfig, "tasks": CurriculumConfig, "evaluation": EvaluationConfig}


def _build(kind: type, data: Any, where: str) -> Any:
    """A dataclass from what JSON made of it."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where} holds {data!r} where settings by name are wanted. Start a new run.")
    names = {item.name for item in dataclasses.fields(kind)}
    strangers = sorted(set(data) - names)
    if strangers:
        raise ConfigError(
            f"{where} has unknown settings {strangers}. Remove them, or use the macurr that wrote them."
        )
    values = {
        name: _build(_PARTS[name], value, where) if name in _PARTS else value for name, value in data.items()
    }
    if isinstance(values.get("hidden"), list):
        values["hidden"] = tuple(values["hidden"])
    return kind(**values)
