"""What each combination of vector environment delivers, found out by running it: writes vectors.md beside this file.

Tiny environments, whose every episode follows from the task, are stepped in each vector, over the process transport.
What the curriculum was told is compared with what must have happened; what the learner was told is described.

    python docs/tables/vectors.py [--check]
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from pettingzoo import ParallelEnv
from supersuit import black_death_v3, concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1

from macurr import Curriculum, DiscreteTaskSpace, make_multiprocessing_curriculum
from macurr.wrappers import GymnasiumSyncWrapper, PettingZooSyncWrapper

COPIES = 4
STEPS = 20
SEED = 10
BOX = gymnasium.spaces.Box(0, 1e6, (2,), np.float32)
AutoresetMode = getattr(
    gymnasium.vector, "AutoresetMode", None
)  # Gymnasium 1.0 knows one mode, without a name
MODES = ["NEXT_STEP"] if AutoresetMode is None else [mode.name for mode in AutoresetMode]
TABLES = {
    "What the curriculum gets, and what the learner is told when an episode ends:": (
        "results and steps",
        "environment ids",
        "task beside the last step",
        "last observation",
        "termination and truncation",
        "length of the episode",
    ),
    "What a reset by the learner does:": ("task", f"seeds of `reset(seed={SEED})`", "`options`"),
}


def length(task: int) -> int:
    """Steps of an episode; every second task ends in a truncation."""
    return 2 + task % 3


def told_at_reset(seed: int | None, options: dict[str, Any] | None) -> dict[str, int]:
    return {"seed": -1 if seed is None else seed, "mine": (options or {}).get("mine", 0)}


class Pair(ParallelEnv):
    """Two agents; where they are `ragged`, the second dies a step before the first."""

    metadata = {"name": "pair_v0", "render_modes": []}  # noqa: RUF012  # PettingZoo's own form

    def __init__(self, ragged: bool = False) -> None:
        self.possible_agents = ["first", "second"]
        self.ragged = ragged
        self.render_mode = None
        self._actions = gymnasium.spaces.Discrete(2)

    def observation_space(self, agent: str) -> Any:
        return BOX

    def action_space(self, agent: str) -> Any:
        return self._actions

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents = self.possible_agents[:]
        self.task, self.t = (options or {}).get("task", 0), 0
        return dict.fromkeys(self.agents, self._seen()), {
            a: told_at_reset(seed, options) for a in self.agents
        }

    def step(self, actions: dict[str, Any]) -> Any:
        acting, self.t = self.agents, self.t + 1
        over = {a: self.t >= length(self.task) - (self.ragged and a == "second") for a in acting}
        self.agents = [a for a in acting if not over[a]]
        return (
            dict.fromkeys(acting, self._seen()),
            dict.fromkeys(acting, float(self.task)),
            {a: over[a] and self.task % 2 == 0 for a in acting},
            {a: over[a] and self.task % 2 == 1 for a in acting},
            {a: {"t": self.t} for a in acting},
        )

    def _seen(self) -> Any:
        return np.array([self.task, self.t], np.float32)


class Alone(gymnasium.Env):
    """The same for one agent."""

    observation_space = BOX
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self._pair = Pair()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seen, infos = self._pair.reset(seed, options)
        return seen["first"], infos["first"]

    def step(self, action: Any) -> Any:
        return tuple(result["first"] for result in self._pair.step({}))


class Ledger(Curriculum):
    """Tasks in order, and notes on whether what comes back is what must have happened."""

    def __init__(self, ragged: bool) -> None:
        super().__init__(DiscreteTaskSpace(10_000))
        self.ragged = ragged
        self.drawn, self.ids, self.true, self.false = 0, set[int](), 0, 0
        self.steps: dict[int, list[Any]] = {}

    @property
    def requires_step_updates(self) -> bool:
        return True

    def register_env(self, env_id: int, spec: Any) -> None:
        self.ids.add(env_id)

    def _sample(self, k: int) -> list[int]:
        self.drawn += k
        return list(range(self.drawn - k, self.drawn))

    def update_on_step_batch(self, batch: Any) -> None:
        self.steps.setdefault(batch.env_id, []).append(batch)

    def update_on_episode(
        self, episode_return: Any, n: int, task: int, progress: Any, env_id: Any = None
    ) -> None:
        if isinstance(episode_return, float):
            expected: Any = float(task * n)
        else:
            expected = {"first": float(task * n), "second": float(task * (n - self.ragged))}
        steps = self.steps.pop(env_id)
        right = (
            n == length(task) == sum(map(len, steps))
            and episode_return == expected
            and all(batch.task == task for batch in steps)
            and [batch.ends_episode for batch in steps] == [False] * (len(steps) - 1) + [True]
            and bool(steps[-1].truncations[-1, 0]) == task % 2 != bool(steps[-1].terminations[-1, 0])
        )
        self.true, self.false = self.true + right, self.false + (not right)


class Learner:
    """Steps a vector and notes what its first column is told."""

    def __init__(self, vector: Any) -> None:
        self.vector = vector
        self.end: dict[str, str] = {}
        self.lengths: set[int] = set()
        self.flags: dict[int, tuple[bool, ...]] = {}

    def note_end(self, task: int, n: int, info: dict[str, Any], flags: tuple[bool, ...]) -> None:
        self.end = {
            "task": "absent" if "task" not in info else "its own" if info["task"] == task else "the next",
            "last": next(
                (name for name in ("terminal_observation", "final_obs") if name in info), "returned"
            ),
        }
        self.lengths.add(n - length(task))
        self.flags[task % 2] = flags

    def describe_end(self) -> str:
        if len(self.flags[0]) == 1:
            return "one flag"
        told_apart = self.flags == {0: (True, False), 1: (False, True)}
        return "told apart" if told_apart else "both flags set"


class SuperSuitLearner(Learner):
    """Reads lists of infos, by column."""

    def run(self) -> tuple[str, str, str]:
        sb3 = hasattr(self.vector, "reset_infos")
        if sb3:
            self.vector.reset()
            seeded: Any = self.vector.reset_infos
        else:
            _, seeded = self.vector.reset(seed=SEED, options={"mine": 1})
        pairs = isinstance(seeded[0], list)
        infos = [info for part in seeded for _, info in part] if pairs else seeded
        task, n = infos[0]["task"], 0
        for _ in range(STEPS):
            seen, _, *flags, after = self.vector.step(np.zeros(self.vector.num_envs, np.int64))
            n += 1
            told = tuple(bool(flag[0]) for flag in flags)
            if any(told):
                self.note_end(task, n, after[0], told)
                task, n = int(seen[0][0]), 0
        where = "`reset_infos[i]`" if sb3 else "by process" if pairs else "`infos[i]`"
        seeds = [info["seed"] for info in infos[::2]]
        return (
            where + pairs * ": `(i, info)` pairs",
            self.seeds(seeds),
            "dropped" if sb3 else self.options(infos),
        )

    @staticmethod
    def seeds(seeds: list[int]) -> str:
        return "none" if max(seeds) < 0 else ", ".join(map(str, seeds))

    @staticmethod
    def options(infos: list[dict[str, Any]]) -> str:
        return "passed on" if all(info["mine"] == 1 for info in infos) else "dropped"


class GymnasiumLearner(Learner):
    """Reads a mapping of arrays."""

    def __init__(self, vector: Any, mode: str) -> None:
        super().__init__(vector)
        self.mode = mode

    def run(self) -> tuple[str, str, str]:
        _, infos = self.vector.reset(seed=SEED, options={"mine": 1})
        seeds, passed = ", ".join(map(str, infos["seed"])), (infos["mine"] == 1).all()
        task, n, over = int(infos["task"][0]), 0, np.zeros(COPIES, bool)
        for _ in range(STEPS):
            if self.mode == "DISABLED" and over.any():
                _, infos = self.vector.reset(options={"reset_mask": over.copy()})
                task, n = (int(infos["task"][0]), 0) if over[0] else (task, n)
            takes_a_step = self.mode == "NEXT_STEP" and over[0]
            seen, _, terminated, truncated, infos = self.vector.step(np.zeros(COPIES, np.int64))
            over, n = terminated | truncated, n + 1
            if over[0]:
                info = {key: infos[key][0] for key in ("task", "final_obs") if key in infos}
                self.note_end(task, n, info, (bool(terminated[0]), bool(truncated[0])))
            if takes_a_step or (self.mode == "SAME_STEP" and over[0]):
                task, n = int(seen[0][0]), 0
        return '`infos["task"][i]`', seeds, "passed on" if passed else "dropped"


def supersuit(num_cpus: int, base_class: str, ragged: bool) -> Callable[[Any], Learner]:
    def make(components: Any) -> Learner:
        env: Any = PettingZooSyncWrapper(Pair(ragged), components, batch_size=2)
        env = pettingzoo_env_to_vec_env_v1(black_death_v3(env) if ragged else env)
        return SuperSuitLearner(concat_vec_envs_v1(env, COPIES, num_cpus, base_class))

    return make


def gymnasium_vector(kind: Any, mode: str) -> Callable[[Any], Learner]:
    def make(components: Any) -> Learner:
        makers = [lambda: GymnasiumSyncWrapper(Alone(), components, batch_size=2)] * COPIES
        options = {} if AutoresetMode is None else {"autoreset_mode": AutoresetMode[mode]}
        return GymnasiumLearner(kind(makers, **options), mode)

    return make


def row(name: str, make: Callable[[Any], Learner], ragged: bool = False) -> list[str]:
    """The name of a combination, and an entry for each column of the tables."""
    ledger = Ledger(ragged)
    curriculum = make_multiprocessing_curriculum(ledger, start=False)  # serve once the workers are there
    learner = make(curriculum.components)
    curriculum.start()
    try:
        reset = learner.run()
    finally:
        learner.vector.close()
        curriculum.close()
    (longer,) = learner.lengths
    return [
        name,
        "true"
        if ledger.true and not ledger.false
        else f"{ledger.false} of {ledger.true + ledger.false} wrong",
        "one each" if len(ledger.ids) == COPIES else str(len(ledger.ids)),
        learner.end["task"],
        "the one returned" if learner.end["last"] == "returned" else f"`{learner.end['last']}`",
        learner.describe_end(),
        "true" if longer == 0 else f"{longer:+d}",
        *reset,
    ]


def rows() -> list[list[str]]:
    found = []
    for base in ("gymnasium", "stable_baselines3"):
        if base == "gymnasium" or importlib.util.find_spec(base):
            for cpus, told in ((0, "0 or 1"), (2, "2")):
                found.append(row(f"SuperSuit, `{base}`, `num_cpus` {told}", supersuit(cpus, base, False)))
    for cpus, told in ((0, "0 or 1"), (2, "2")):
        name = f"SuperSuit, `gymnasium`, `num_cpus` {told}, `black_death_v3`"
        found.append(row(name, supersuit(cpus, "gymnasium", True), ragged=True))
    for kind in (SyncVectorEnv, AsyncVectorEnv):
        for mode in MODES:
            found.append(row(f"Gymnasium `{kind.__name__}`, `{mode}`", gymnasium_vector(kind, mode)))
    return found


def tables(lines: list[list[str]]) -> str:
    """The tables in Markdown, each with the first column and its own."""
    text, first = "", 1
    for caption, head in TABLES.items():
        own = slice(first, first + len(head))
        every = [
            ["combination", *head],
            ["---"] * (1 + len(head)),
            *([line[0], *line[own]] for line in lines),
        ]
        text += f"{caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in every) + "\n"
        first += len(head)
    return text.rstrip("\n") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with vectors.md instead of writing it")
    check = parser.parse_args().check
    warnings.filterwarnings("ignore", message=".*multi-threaded.*")
    text = tables(rows())
    print(text)
    path = Path(__file__).with_suffix(".md")
    if not check:
        path.write_text(text, encoding="utf-8")
        return
    known = path.read_text(encoding="utf-8").splitlines()
    different = [line for line in text.splitlines() if line not in known]
    if different:
        raise SystemExit(
            "vectors.md says otherwise; run this script without --check:\n" + "\n".join(different)
        )


if __name__ == "__main__":
    main()
