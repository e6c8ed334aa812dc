"""The tree of a run's settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from macurr.errors import ConfigError
from macurr.training.checks import FLAG, KEYWORDS, TEXT, choice, optional, real, text_like, whole
from macurr.training.config.fields import build, check_tree, described, part, setting
from macurr.training.config.parts import (
    CurriculumConfig,
    EvaluationConfig,
    ModelConfig,
    PBTConfig,
    PoliciesConfig,
    PPOConfig,
)
from macurr.training.config.rules import check_rules

__all__ = [
    "CURRICULA",
    "DEFAULT_MINUTES",
    "DEFAULT_STEPS",
    "ENGINES",
    "FORMAT_VERSION",
    "OPPONENTS",
    "TRANSPORTS",
    "TrainConfig",
]

FORMAT_VERSION = 1
"""The version of a run directory. A run of another version is refused, not misread."""

CURRICULA = ("plr", "dr", "joint")
OPPONENTS = ("pfsp", "fsp", "self", "none")
TRANSPORTS = ("process", "local")
ENGINES = ("processes", "ray")

DEFAULT_STEPS = 1_000_000
"""Environment steps of a run for which neither steps nor minutes are given."""
DEFAULT_MINUTES = 3.0
"""Most minutes of training of a run for which neither steps nor minutes are given."""

_WHAT = "what to train on"
_LONG = "how long: whichever bound comes first"
_HOW = "how environments are stepped"
_WHERE = "what is kept, and where"
_BOTH = f"{DEFAULT_STEPS:,} steps or {DEFAULT_MINUTES:g} minutes where neither is given"


@described
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a training run is determined by.

    Raises:
        ConfigError: a setting is not of its type or out of its range, or does not go with another; the message says
            which and why.
    """

    env: str = setting(
        "macurr.envs.apple_race_v0",
        TEXT,
        "import path of a PettingZoo environment: a module with parallel_env() or env(), or module:callable",
        group=_WHAT,
    )
    env_args: Mapping[str, Any] = setting(dict, KEYWORDS, "keywords for it", group=_WHAT, default_text="none")
    curriculum: str = setting(
        "plr",
        choice(*CURRICULA),
        "levels: prioritized level replay, uniform (domain randomization), or level and opponent drawn together by "
        "the scores of both (MAESTRO)",
        group=_WHAT,
    )
    opponents: str = setting(
        "pfsp",
        choice(*OPPONENTS),
        "past selves: prioritized fictitious self-play, uniform over all (fictitious self-play), the latest, or none: "
        "every agent learns",
        group=_WHAT,
    )
    seed: int = setting(0, whole(0), "seed of everything random", group=_WHAT)

    steps: int | None = setting(
        None, optional(whole(1)), "environment steps", group=_LONG, default_text=_BOTH, changeable=True
    )
    minutes: float | None = setting(
        None,
        optional(real(0, above=True)),
        "minutes of training, evaluation not included",
        group=_LONG,
        default_text="see steps",
        changeable=True,
    )

    workers: int = setting(2, whole(1, 256), "processes that step environments", group=_HOW)
    envs_per_worker: int = setting(64, whole(1), "environments in each", group=_HOW)
    splits: int | None = setting(
        None,
        optional(whole(1)),
        "groups of a worker's environments: one is stepped while the policy acts for another; must divide "
        "envs_per_worker",
        group=_HOW,
        default_text="2 where that divides, 1 with transport local",
    )
    transport: str = setting(
        "process",
        choice(*TRANSPORTS),
        "environments in processes of their own, or all in this one (serial), which repeats exactly and needs one "
        "worker",
        group=_HOW,
    )
    engine: str = setting(
        "processes", choice(*ENGINES), "what starts the workers: this machine, or a Ray cluster", group=_HOW
    )
    ray_address: str | None = setting(
        None,
        optional(TEXT),
        "engine ray: address of the cluster",
        group=_HOW,
        default_text="the one that runs, or a local one",
    )
    async_rl: bool | None = setting(
        None,
        optional(FLAG),
        "collect and train at the same time, each with its own copy of the policy",
        group=_HOW,
        default_text="on with transport process, off with local",
    )
    num_batches_to_accumulate: int = setting(
        2, whole(1), "asynchronous: batches that may wait for training before collection pauses", group=_HOW
    )
    max_policy_lag: int = setting(
        1000,
        whole(1),
        "steps of a policy older than this many of its gradient steps are not trained on",
        group=_HOW,
    )
    decorrelate: int = setting(
        64,
        whole(0),
        "steps over which the environments start one after the other; 0: all at once",
        group=_HOW,
    )
    worker_restarts: int = setting(
        3, whole(0), "how often a run replaces a worker that has died", group=_HOW, changeable=True
    )
    device: str = setting(
        "auto",
        text_like(r"auto|cpu|cuda(:\d+)?", "'auto', 'cpu', 'cuda' or 'cuda:<number>'"),
        "where policies act and train: auto (a GPU where there is one), cpu, cuda or cuda:1",
        group=_HOW,
        changeable=True,
    )
    threads: int = setting(
        1,
        whole(1),
        "threads of torch; more only help large networks on an idle machine",
        group=_HOW,
        changeable=True,
    )

    out: str | None = setting(
        None, optional(TEXT), "the run's directory", group=_WHERE, default_text="runs/<env>-<date-time>"
    )
    checkpoint_minutes: float = setting(
        1.0, real(0), "minutes between two checkpoints; 0: after each update", group=_WHERE, changeable=True
    )
    tensorboard: bool = setting(True, FLAG, "write curves for TensorBoard", group=_WHERE, changeable=True)
    wandb: str | None = setting(
        None,
        optional(TEXT),
        "project of Weights & Biases to write the curves to",
        group=_WHERE,
        default_text="off",
        changeable=True,
    )

    ppo: PPOConfig = field(
        default_factory=PPOConfig, metadata=part(PPOConfig, "the learner (PPO)", "the learner")
    )
    model: ModelConfig = field(
        default_factory=ModelConfig, metadata=part(ModelConfig, "the network", "the network of a policy")
    )
    policies: PoliciesConfig = field(
        default_factory=PoliciesConfig,
        metadata=part(PoliciesConfig, "policies", "how many policies there are, and who plays which"),
    )
    pbt: PBTConfig = field(
        default_factory=PBTConfig,
        metadata=part(PBTConfig, "population-based training", "population-based training"),
    )
    tasks: CurriculumConfig = field(
        default_factory=CurriculumConfig,
        metadata=part(CurriculumConfig, "levels and opponents", "the curriculum"),
    )
    evaluation: EvaluationConfig = field(
        default_factory=EvaluationConfig,
        metadata=part(EvaluationConfig, "evaluation", "what is played at the end"),
    )

    def __post_init__(self) -> None:
        check_tree(self)
        check_rules(self)

    @classmethod
    def of(cls, **settings: Any) -> TrainConfig:
        """The settings from a flat list: names are unique over the tree, so that no part has to be named.

        Raises:
            ConfigError: as the class.
            TypeError: there is no setting of a name.
        """
        return build(cls, settings)

    @property
    def num_envs(self) -> int:
        """Environments in all."""
        return self.workers * self.envs_per_worker

    @property
    def num_splits(self) -> int:
        """Groups of the environments of a worker."""
        if self.splits is not None:
            return self.splits
        return 2 if self.transport == "process" and self.envs_per_worker % 2 == 0 else 1

    @property
    def asynchronous(self) -> bool:
        """Whether collection and training go on at the same time."""
        return self.transport == "process" if self.async_rl is None else self.async_rl

    @property
    def batch(self) -> int:
        """Environment steps of one rollout of every environment."""
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


_PARTS: dict[str, type] = {
    "ppo": PPOConfig,
    "model": ModelConfig,
    "policies": PoliciesConfig,
    "pbt": PBTConfig,
    "tasks": CurriculumConfig,
    "evaluation": EvaluationConfig,
}


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
        name: _build(_PARTS[name], value, where) if kind is TrainConfig and name in _PARTS else value
        for name, value in data.items()
    }
    if isinstance(values.get("hidden"), list):
        values["hidden"] = tuple(values["hidden"])
    return kind(**values)
