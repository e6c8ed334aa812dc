"""Matches played again and filmed: what a policy does on a level, as pictures that move.

A film is made by the same arena as an evaluation: only the environment is another, one that is asked for a picture
after each step. So whatever an evaluation can play can be filmed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import BaseWrapper
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper
from typing_extensions import override

from macurr.errors import MacurrError
from macurr.training.envs import EnvSource
from macurr.training.reporting.pictures import RGB

__all__ = ["Reel", "filming", "with_pictures"]


_MOST_FRAMES = 64
_MOST_STEPS = 2000
"""Steps after which a filmed episode is cut off, so that no report waits for a game without end."""


class Reel:
    """The pictures of one episode, spread evenly over it, at most so many however long it is.

    Attributes:
        seed: The level; None before the episode begins.
        fps: The environment's own pictures a second.
        frames: RGB pictures.
        stride: Steps from one to the next.
        steps: Steps of the episode.
        failure: Why there are none, "" where there are.
    """

    def __init__(self) -> None:
        self.seed: int | None = None
        self.fps = 8.0
        self.frames: list[RGB] = []
        self.stride, self.steps = 1, 0
        self.failure = ""
        self._over = False

    def begin(self, seed: int | None, env: Any) -> None:
        """An episode begins. The second is not filmed."""
        if self.seed is not None:
            self._over = True
            return
        self.seed = seed
        self.fps = _fps(getattr(env, "metadata", None) or {})
        self._take(env)

    def step(self, env: Any, last: bool) -> None:
        """A step is over.

        Args:
            env: What to draw.
            last: Whether it ended the episode, whose end is always shown.
        """
        if self._over:
            return
        self.steps += 1
        if last or self.steps % self.stride == 0:
            self._take(env)
        if len(self.frames) > 2 * _MOST_FRAMES:
            self._halve()
        self._over = last

    def chosen(self) -> list[RGB]:
        """The pictures to show, the first and the last among them."""
        if len(self.frames) > _MOST_FRAMES:
            self._halve()
        return self.frames

    def _halve(self) -> None:
        last = self.frames[-1]
        self.frames = self.frames[::2]
        if self.frames[-1] is not last:
            self.frames.append(last)
        self.stride *= 2

    def _take(self, env: Any) -> None:
        if self.failure:
            return
        try:
            picture = np.asarray(env.render())
        except Exception as error:  # whatever an environment raises: a picture is not worth a run
            self.failure = f"{type(error).__name__}: {error}"
            return
        if picture.ndim != 3 or picture.shape[-1] not in (3, 4) or picture.dtype != np.uint8:
            self.failure = f"render() gave no RGB picture but an array of shape {picture.shape}"
            return
        self.frames.append(picture[..., :3])


class _FilmedParallel(BaseParallelWrapper[str, Any, Any]):
    """Films its first episode."""

    def __init__(self, env: ParallelEnv[str, Any, Any], reel: Reel) -> None:
        super().__init__(env)
        self._reel = reel

    @override
    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        result = super().reset(seed=seed, options=options)
        self._reel.begin(seed, self.env)
        return result

    @override
    def step(self, actions: dict[str, Any]) -> Any:
        observations, rewards, terminations, truncations, infos = super().step(actions)
        if self._reel.steps >= _MOST_STEPS:
            truncations = dict.fromkeys(truncations, True)
        last = all(terminations.get(agent) or truncations.get(agent) for agent in rewards)
        self._reel.step(self.env, last or not self.env.agents)
        return observations, rewards, terminations, truncations, infos


class _FilmedTurns(BaseWrapper[str, Any, Any]):
    """Films its first episode, a picture for each turn."""

    def __init__(self, env: AECEnv[str, Any, Any], reel: Reel) -> None:
        super().__init__(env)
        self._reel = reel

    @override
    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        super().reset(seed=seed, options=options)
        self._reel.begin(seed, self.env)

    @override
    def step(self, action: Any) -> None:
        super().step(action)
        if action is None:  # an agent that is out takes its leave: nothing is to be seen
            return
        if self._reel.steps >= _MOST_STEPS:
            self.truncations.update(dict.fromkeys(self.truncations, True))
        last = all(self.terminations.get(agent) or self.truncations.get(agent) for agent in self.env.agents)
        self._reel.step(self.env, last)


@dataclass(frozen=True)
class _FilmedSource(EnvSource):
    """Makes environments that film themselves, each on a reel of its own."""

    reels: list[Reel] = field(default_factory=list)

    @override
    def make(self) -> Any:
        env: Any = super().make()
        reel = Reel()
        self.reels.append(reel)
        return _FilmedTurns(env, reel) if isinstance(env, AECEnv) else _FilmedParallel(env, reel)


def with_pictures(source: EnvSource) -> EnvSource | str:
    """The environment with pictures, or why there is none.

    Args:
        source: The environment.

    Raises:
        MacurrError: the environment itself cannot be made.
    """
    env: Any = source.make()
    try:
        modes = (getattr(env, "metadata", None) or {}).get("render_modes", ())
    finally:
        env.close()
    if "rgb_array" not in modes:
        return "the environment offers no rgb_array pictures (render_modes)"
    wanted = EnvSource(source.path, {**source.args, "render_mode": "rgb_array"})
    try:
        with _without_window():
            wanted.make().close()  # type: ignore[no-untyped-call]  # PettingZoo
    except MacurrError as error:
        return f"the environment cannot be made with render_mode='rgb_array' ({error.__cause__ or error})"
    return wanted


@contextmanager
def filming(source: EnvSource) -> Iterator[tuple[EnvSource, list[Reel]]]:
    """A source whose environments film their first episodes, and the reels, in the order in which they are made.

    Args:
        source: An environment with pictures, from `with_pictures`.
    """
    filmed = _FilmedSource(source.path, source.args)
    with _without_window():
        yield filmed, filmed.reels


@contextmanager
def _without_window() -> Iterator[None]:
    """Let pygame, which many environments draw with, neither open a window nor greet."""
    wanted = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    added = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _fps(metadata: Mapping[str, Any]) -> float:
    """The environment's own pictures a second; 8 where it says nothing."""
    try:
        return float(metadata.get("render_fps") or 8.0)
    except (TypeError, ValueError):
        return 8.0
