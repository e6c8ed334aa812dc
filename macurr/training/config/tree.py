"""The tree of a run's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from macurr.errors import MissingDependencyError
from macurr.training.checks import FLAG, KEYWORDS, TEXT, choice, optional, real, text_like, whole
from macurr.training.config.arguments import check_arguments
from macurr.training.config.fields import build, check_tree, described, flat, part, setting
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

FORMAT_VERSION = 2
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
        metavar="PATH",
    )
    env_args: Mapping[str, Any] = setting(dict, KEYWORDS, "keywords for it", group=_WHAT, default_text="none")
    curriculum: str = setting(
        "plr",
        choice(*CURRICULA),
        "levels: prioritized level replay (plr), uniform (dr: domain randomization), or drawn together with the "
        "opponent by the scores of both (joint: MAESTRO)",
        group=_WHAT,
    )
    opponents: str = setting(
        "pfsp",
        choice(*OPPONENTS),
        "who plays the others: past selves by prioritized fictitious self-play (pfsp), or uniformly (fsp), the latest "
        "self, or none of these: every agent learns",
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
        "groups of a worker's environments: one is stepped while the policy acts for another; 2 is worth it where "
        "cores are idle; must divide envs_per_worker",
        group=_HOW,
        default_text="1",
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
        metavar="ADDRESS",
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
    worker_timeout: float | None = setting(
        None,
        optional(real(0, above=True)),
        "seconds after which a worker whose environments have not come back is replaced as one that has died; a step "
        "of all of them has to fit in, and a minute more is given to make them",
        group=_HOW,
        default_text="wait, and warn after 30 s",
        changeable=True,
    )
    device: str = setting(
        "auto",
        text_like(r"auto|cpu|cuda(:\d+)?", "'auto', 'cpu', 'cuda' or 'cuda:<number>'"),
        "where policies act and train: auto (a GPU where there is one), cpu, cuda or cuda:1",
        group=_HOW,
        changeable=True,
        metavar="NAME",
    )
    threads: int = setting(
        1,
        whole(1),
        "threads of torch; more only help large networks on an idle machine",
        group=_HOW,
        changeable=True,
    )

    out: str | None = setting(
        None,
        optional(TEXT),
        "the run's directory",
        group=_WHERE,
        default_text="runs/<env>-<date-time>",
        metavar="DIR",
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
        metavar="PROJECT",
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
        check_arguments(self)

    @classmethod
    def of(cls, **settings: Any) -> TrainConfig:
        """The settings from a flat list: names are unique over the tree, so that no part has to be named.

        Raises:
            ConfigError: as the class.
            TypeError: there is no setting of a name.
        """
        return build(cls, settings)

    def settings(self) -> dict[str, Any]:
        """The values of all settings by their names alone: `TrainConfig.of(**config.settings())` equals `config`."""
        return flat(self)

    @property
    def num_envs(self) -> int:
        """Environments in all."""
        return self.workers * self.envs_per_worker

    @property
    def num_splits(self) -> int:
        """Groups of the environments of a worker."""
        # With as many processes as cores, two groups cost up to 14 % of the speed: inference in halves takes longer.
        return 1 if self.splits is None else self.splits

    @property
    def asynchronous(self) -> bool:
        """Whether collection and training go on at the same time."""
        return self.transport == "process" if self.async_rl is None else self.async_rl

    @property
    def argument_groups(self) -> int:
        """Groups of environments that may differ in the arguments that a population tunes: those of each policy."""
        return self.policies.num_policies if self.policies.mapping == "env" else 1

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

    def to_yaml(self) -> str:
        """The settings as YAML: grouped, each with a line that says what it means, and the version of the format.

        Raises:
            MissingDependencyError: PyYAML is not installed.
        """
        text: str = _text().write(self)
        return text

    @classmethod
    def from_yaml(cls, text: str, where: str = "the settings") -> TrainConfig:
        """The settings from YAML: what `to_yaml` gave, or any part of it; what is not there has its default.

        Args:
            text: The text.
            where: Where it came from, for errors.

        Raises:
            ConfigError: it is no such text, of another version, or holds a setting that does not exist or cannot be
                used; the message names it, and the nearest name that there is.
            MissingDependencyError: PyYAML is not installed.
        """
        return cls.of(**_text().read(text, where))


def _text() -> Any:
    try:
        return import_module("macurr.training.config.text")
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise MissingDependencyError.for_extra("PyYAML", "train", "A file of settings") from error
