"""Matches played again and filmed: what a policy does on a level, as pictures that move.

A film is made by the same arena as an evaluation: only the environment is another, one that is asked for a picture
after each step. So whatever an evaluation can play can be filmed.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import BaseWrapper
from pettingzoo.utils.wrappers.base_parallel import BaseParallelWrapper
from PIL import Image
from typing_extensions import override

from macurr.errors import MacurrError
from macurr.training.envs import EnvSource

__all__ = ["Film", "Reel", "filming", "gif", "still", "with_pictures"]

RGB = NDArray[np.uint8]

_MOST_FRAMES = 60
_MOST_STEPS = 2000
"""Steps after which a filmed episode is cut off, so that no report waits for a game without end."""
_SIDE = 400
"""Pixels of the longer side of a film."""
_SPEED = 2.0
"""Times faster than the environment's own frame rate."""
_COLOURS = 256


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
        return "it offers no rgb_array pictures (render_modes)"
    wanted = EnvSource(source.path, {**source.args, "render_mode": "rgb_array"})
    try:
        with _without_window():
            wanted.make().close()  # type: ignore[no-untyped-call]  # PettingZoo
    except MacurrError as error:
        return f"it cannot be made with render_mode='rgb_array' ({error.__cause__ or error})"
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


@dataclass(frozen=True)
class Film:
    """A filmed match.

    Attributes:
        still: The first picture, as a data URI.
        moving: All of it, as a data URI; "" where there is one picture only.
        width: Pixels.
        height: Pixels.
        steps: Steps of the episode.
        stride: Steps from one picture to the next.
    """

    still: str
    moving: str
    width: int
    height: int
    steps: int
    stride: int

    @classmethod
    def of(cls, reel: Reel) -> Film:
        """From a reel that holds a picture."""
        pictures = [_small(frame) for frame in reel.chosen()]
        width, height = pictures[0].size
        moving = gif(pictures, reel.fps) if len(pictures) > 1 else ""
        return cls(still(pictures[0]), moving, width, height, reel.steps, reel.stride)


def gif(pictures: Sequence[Image.Image], fps: float) -> str:
    """An endless GIF at twice the environment's speed, the end held for a second, as a data URI.

    Args:
        pictures: RGB pictures of one size.
        fps: The environment's own pictures a second.
    """
    # One palette for all, so that equal places stay equal and cost nothing.
    sheet = _sheet(pictures)
    palette = sheet.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    # Browsers slow down what is faster than 20 ms a frame.
    each = max(20, round(1000 / max(fps, 1.0) / _SPEED))
    durations = [each] * (len(frames) - 1) + [1000]
    out = io.BytesIO()
    frames[0].save(
        out, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
    return _uri("image/gif", out.getvalue())


def still(picture: Image.Image) -> str:
    """A picture as a data URI."""
    out = io.BytesIO()
    plain = picture.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    plain.save(out, "PNG", optimize=True)
    return _uri("image/png", out.getvalue())


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Some of the pictures below each other: what the palette is chosen from."""
    some = pictures[:: max(1, len(pictures) // 6)][:8]
    width, height = some[0].size
    sheet = Image.new("RGB", (width, height * len(some)))
    for i, picture in enumerate(some):
        sheet.paste(picture, (0, i * height))
    return sheet


def _small(frame: RGB) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    longest = max(picture.size)
    if longest > _SIDE:
        width, height = (max(1, round(side * _SIDE / longest)) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    # Small boards grow by whole numbers, so that their cells stay sharp.
    times = max(1, _SIDE // longest)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _fps(metadata: Mapping[str, Any]) -> float:
    """The environment's own pictures a second; 8 where it says nothing."""
    try:
        return float(metadata.get("render_fps") or 8.0)
    except (TypeError, ValueError):
        return 8.0
