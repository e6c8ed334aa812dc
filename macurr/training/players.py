"""The players of a tournament or an evaluation: policies of runs, named as a shell names them, checked and loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from macurr.errors import ConfigError, PoolError, StateError
from macurr.opponents import AgentPool
from macurr.training.envs import EnvSource
from macurr.training.layout import Layout
from macurr.training.mapping import PolicyMapping
from macurr.training.opponents import policies_of
from macurr.training.policy import Policy, PolicySpec
from macurr.training.rundir import RunDir

__all__ = ["RANDOM_PLAYER", "OpenRun", "Player", "Weights", "check_players", "labels_of", "spread"]

Weights = Mapping[str, NDArray[Any]]

_PICK = re.compile(
    r"(?P<path>.+?)(?::(?P<snapshot>\d+)|@(?P<steps>\d[\d_]*(?:\.\d+)?(?:e\d+)?))", re.IGNORECASE
)


@dataclass(frozen=True)
class Player:
    """One policy.

    Attributes:
        name: What it is called in tables.
        run: The run that it is of; None for the random policy.
        snapshot: Its id in the run's pool; None for the run's final policy and for the random one.
        steps: Environment steps after which it was taken; None where nobody knows.
    """

    name: str
    run: OpenRun | None
    snapshot: int | None
    steps: int | None

    def weights(self) -> Weights:
        """Its parameters.

        Raises:
            ConfigError: it has none: it is the random policy.
            PoolError: its file is gone or damaged.
        """
        if self.run is None:
            raise ConfigError(f"{self.name} has no parameters.")
        return self.run.weights(self.snapshot)

    def casting(self, layout: Layout) -> tuple[int, ...]:
        """The number of its policy that plays each agent of an environment."""
        agents = layout.agents
        return (0,) * len(agents) if self.run is None else self.run.casting(agents, self.snapshot)

    def state_size(self, layout: Layout) -> int:
        """Numbers that it remembers between steps."""
        return 0 if self.run is None else PolicySpec.of(layout, self.run.config.model).actor_state_size


RANDOM_PLAYER = Player("random", None, None, None)
"""The one who chooses uniformly."""


class OpenRun:
    """A run and its policies.

    Args:
        text: RUN, RUN:ID or RUN@STEPS; a directory of exactly that name comes first.

    Attributes:
        directory: Its files.
        config: Its settings.
        pool: Its snapshots.
        picked: The id named in `text`, None for none.
        label: What its players are called after.

    Raises:
        ConfigError: there is no such run.
        PoolError: there is no such snapshot, or the pool cannot be read.
    """

    def __init__(self, text: str | os.PathLike[str]) -> None:
        path, snapshot, steps = _split(os.fspath(text))
        self.directory, self.config = RunDir.open(path)
        self.label = path.rstrip("/") or path
        self.pool = AgentPool(self.directory.snapshots, create=False)
        self.picked: int | None = None
        if snapshot is not None:
            self.picked = self.held(snapshot)
        elif steps is not None:
            self.picked = self._nearest(steps)

    @property
    def key(self) -> Path:
        """What tells runs apart."""
        return self.directory.path.resolve()

    @property
    def source(self) -> EnvSource:
        """Its environment."""
        return EnvSource(self.config.env, dict(self.config.env_args))

    @property
    def finished(self) -> bool:
        """Whether it has a final policy."""
        return self.directory.policy.exists()

    def held(self, snapshot: int) -> int:
        """The id, if the pool holds it.

        Raises:
            PoolError: it does not.
        """
        if snapshot not in self.pool:
            ids = ", ".join(map(str, self.pool.ids)) or "none"
            raise PoolError(
                f"The run {self.label} does not hold snapshot {snapshot}: it was dropped, or never taken. A run keeps "
                f"{self.config.tasks.capacity} of its snapshots (--capacity); these are left: {ids}."
            )
        return snapshot

    def pick(self, snapshot: int) -> None:
        """Name one snapshot, where `text` named none.

        Raises:
            ConfigError: it named one.
            PoolError: the pool does not hold it.
        """
        if self.picked is not None:
            raise ConfigError(
                f"Two snapshots of {self.label} are named, {self.picked} and {snapshot}. Name one."
            )
        self.picked = self.held(snapshot)

    def chosen(self, snapshots: str | int) -> list[int | None]:
        """The ids asked for, oldest first; None is the final policy.

        Args:
            snapshots: "last" for the final policy, "all", or how many, spread over the run.

        Raises:
            ConfigError: the run has no final policy and that is asked for, or it has no policy at all.
        """
        if self.picked is not None:
            return [self.picked]
        if snapshots == "last" and not self.finished:
            raise ConfigError(
                f"The run {self.label} has no final policy: it has not been finished. Finish it by macurr train "
                f"--resume {self.label}, or name one of its snapshots, such as {self.label}:{self._example()}."
            )
        if snapshots == "last":
            return [None]
        found: list[int | None] = [*self.past()]
        if self.finished:
            found.append(None)
        if not found:
            raise ConfigError(f"The run {self.label} has no snapshots. Train it first.")
        return found if snapshots == "all" else [found[i] for i in spread(len(found), int(snapshots))]

    def past(self) -> list[int]:
        """The ids of its snapshots, oldest first, without the one that is the final policy."""
        ids = self.pool.ids
        return ids[:-1] if ids and self._ends_with_final() else ids

    def steps(self, snapshot: int | None) -> int | None:
        """Environment steps after which a policy was taken."""
        if snapshot is None:
            if not self._ends_with_final():
                return None
            snapshot = self.pool.latest
        found = self.pool.metadata(snapshot).get("steps")
        return None if found is None else int(found)

    def weights(self, snapshot: int | None) -> Weights:
        """The parameters of a snapshot, or of the final policy.

        Raises:
            PoolError: the file is gone or damaged.
        """
        if snapshot is not None:
            return self.pool.get(snapshot)
        path = self.directory.policy
        try:
            loaded: dict[str, NDArray[Any]] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise PoolError(
                f"The final policy {path} cannot be read: {error}. It was cut short or damaged: put back a good copy, "
                f"or name a snapshot instead, such as {self.label}:{self._example()}."
            ) from error
        return loaded

    def casting(self, agents: Sequence[str], snapshot: int | None) -> tuple[int, ...]:
        """The number of the policy that plays each agent.

        The run's mapping says it. Where that gives policies to agents by chance or by the number of the environment,
        all agents are played by the policy that did best at the time, where the run noted it, and by the first
        otherwise.
        """
        chosen = self.config.policies
        if chosen.mapping in ("random", "env"):
            return (self._best(snapshot),) * len(agents)
        mapping = PolicyMapping(chosen.mapping, chosen.num_policies, agents, np.random.default_rng(0))
        return tuple(mapping.for_evaluation(agent) for agent in agents)

    def _best(self, snapshot: int | None) -> int:
        if snapshot is None and self._ends_with_final():
            snapshot = self.pool.latest
        return 0 if snapshot is None else int(self.pool.metadata(snapshot).get("best", 0))

    def player(self, snapshot: int | None, label: str | None = None) -> Player:
        """One of its policies as a player."""
        name = label or self.label
        return Player(
            name if snapshot is None else f"{name}:{snapshot}", self, snapshot, self.steps(snapshot)
        )

    def _ends_with_final(self) -> bool:
        """Whether the newest snapshot is the final policy itself, as where a run was finished and left alone."""
        if not self.finished or not self.pool.ids:
            return False
        final = self.weights(None)
        try:
            newest = self.pool.get(self.pool.latest)
        except PoolError:  # a damaged one matters to those only who want it to play
            return False
        return final.keys() == newest.keys() and all(
            np.array_equal(final[name], newest[name]) for name in final
        )

    def _nearest(self, steps: float) -> int:
        known = {i: self.pool.metadata(i).get("steps") for i in self.pool.ids}
        distances = {i: abs(at - steps) for i, at in known.items() if at is not None}
        if not distances:
            raise PoolError(
                f"The run {self.label} has no snapshots whose steps are known. Name one by its id."
            )
        return min(distances, key=lambda i: distances[i])

    def _example(self) -> int:
        return max(self.pool.ids, default=0)


def check_players(players: Sequence[Player], layout: Layout, name: str) -> None:
    """Read every player once, before the first game.

    Args:
        players: The players.
        layout: How their environment is laid out.
        name: What to call the environment in errors.

    Raises:
        PoolError: one cannot be read, or is of another architecture than its run says.
    """
    wanted: dict[PolicySpec, dict[str, tuple[int, ...]]] = {}
    for player in players:
        if player.run is None:
            continue
        spec = PolicySpec.of(layout, player.run.config.model)
        if spec not in wanted:
            policy = Policy(spec, torch.Generator())
            wanted[spec] = {key: tuple(tensor.shape) for key, tensor in policy.state_dict().items()}
        found = _policies(player)
        count = player.run.config.policies.num_policies
        if len(found) != count:
            raise PoolError(
                f"{player.name} holds {len(found)} policies, and its run has {count}. It was made by another run: name "
                "a snapshot that the run itself took."
            )
        for arrays in found:
            _check_shapes(player, arrays, wanted[spec], spec, name)


def _policies(player: Player) -> list[dict[str, NDArray[Any]]]:
    try:
        return policies_of(player.weights())
    except StateError as error:
        raise PoolError(f"{player.name} is no snapshot of policies: {error}") from error


def _check_shapes(
    player: Player, arrays: Weights, wanted: Mapping[str, tuple[int, ...]], spec: PolicySpec, name: str
) -> None:
    found = {key: array.shape for key, array in arrays.items()}
    different = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
    if different:
        key = different[0]
        raise PoolError(
            f"{player.name} is of another architecture than its run: {key!r} has the shape {found.get(key)}, and "
            f"a policy of {name} with the hidden layers {list(spec.hidden)} has {wanted.get(key)}. It was made "
            "for another environment or with other layers: name a snapshot that the run itself took."
        )


def labels_of(runs: Sequence[OpenRun]) -> dict[Path, str]:
    """A short name for each run: its folder's, or its path where folders share a name."""
    keys = {run.key: run.label for run in runs}
    names = [key.name for key in keys]
    return {
        key: key.name if names.count(key.name) == 1 and key.name != "random" else str(path)
        for key, path in keys.items()
    }


def spread(n: int, k: int) -> list[int]:
    """So many (k) of the numbers below n, evenly, the last always and the first where k > 1."""
    if k >= n:
        return list(range(n))
    return sorted({n - 1 - round(i * (n - 1) / max(k - 1, 1)) for i in range(k)})


def _split(text: str) -> tuple[str, int | None, float | None]:
    match = None if Path(text).is_dir() else _PICK.fullmatch(text)
    if match is None:
        return text, None, None
    snapshot, steps = match["snapshot"], match["steps"]
    return match["path"], None if snapshot is None else int(snapshot), None if steps is None else float(steps)
