"""Automatic domain randomization: a box that grows where the policy copes with its border."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from macurr.curricula._box import BoxCurriculum
from macurr.curricula._origins import Origins
from macurr.curricula._outcomes import Success, SuccessRule, check_fraction
from macurr.curricula._states import StateReader
from macurr.errors import UsageError
from macurr.spaces import BoxTaskSpace

__all__ = ["AutomaticDomainRandomization"]


class AutomaticDomainRandomization(BoxCurriculum):
    """ADR: tasks are uniform in a box whose sides move out where success is high and in where it is low.

    OpenAI et al. 2019 (arXiv:1910.07113), algorithm 1. The box begins as a point. With probability
    `boundary_probability` a task is put on one side of it, chosen uniformly among all 2 d sides; its success goes to
    that side's queue. When `queue_length` results are in, the side moves by `step` outwards if their mean is at
    least `high`, inwards if it is at most `low`, and the queue is emptied either way.

    Which side a task was drawn for is remembered, not guessed from its coordinates: so rounding is harmless, a box
    that is still a point feeds one side per task, and results of aborted episodes are not waited for. A side never
    crosses the opposite one. Results of tasks drawn for a side that has moved since are ignored.

    Args:
        task_space: The box that the sides stay in.
        start: The first task; by default the middle.
        step: How far a side moves, as a fraction of the space's width in that coordinate.
        low: Mean success at which a side moves in.
        high: Mean success at which a side moves out.
        queue_length: How many results decide. The paper uses 240, the reference benchmark 10.
        boundary_probability: Probability that a task is on a side.
        success: What an episode's success is: "solved" (1 if the return is positive or the task completed, else 0),
            "progress" (task completion), "return" (1 if the return is positive), or a function of return and
            progress with values from 0 to 1.
        options: The base class's keywords.

    Raises:
        UsageError: the space is no box, or an option is out of its range.
        TaskError: `start` is not in the space.
    """

    def __init__(
        self,
        task_space: BoxTaskSpace,
        *,
        start: ArrayLike | None = None,
        step: float = 0.1,
        low: float = 0.2,
        high: float = 0.8,
        queue_length: int = 10,
        boundary_probability: float = 0.5,
        success: Success = "solved",
        **options: Any,
    ) -> None:
        super().__init__(task_space, **options)
        if not 0.0 <= low < high <= 1.0 or queue_length < 1:
            raise UsageError(
                f"ADR needs 0 <= low < high <= 1 and queue_length of 1 or more; got {low!r}, {high!r} and "
                f"{queue_length!r}."
            )
        self.step = check_fraction("step", step, zero=False)
        self.boundary_probability = check_fraction("boundary_probability", boundary_probability)
        self.low, self.high, self.queue_length = low, high, queue_length
        self._success = SuccessRule(success)
        d = self.cube.dimensions
        point = np.full(d, 0.5) if start is None else self.cube.point(task_space.check(start))
        # Side i < d is the lower one of coordinate i, side d + i the upper one.
        self._sides = np.concatenate([point, point])
        self._queues: list[list[float]] = [[] for _ in range(2 * d)]
        self._moves = [0] * (2 * d)
        self._drawn = Origins(task_space)

    @property
    def bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lowest and highest task of the box as it is now."""
        d = self.cube.dimensions
        return self.cube.task(self._sides[:d]), self.cube.task(self._sides[d:])

    @override
    def _sample(self, k: int) -> list[Any]:
        return [self._draw() for _ in range(k)]

    def _draw(self) -> Any:
        d = self.cube.dimensions
        point = self.rng.uniform(self._sides[:d], self._sides[d:])
        source = 0
        if self.rng.random() < self.boundary_probability:
            side = int(self.rng.integers(2 * d))
            point[side % d] = self._sides[side]
            # What a draw was for: 0 for nothing, else the side and how often it had moved by then.
            source = 1 + side + 2 * d * self._moves[side]
        task = self.cube.task(point)
        self._drawn.drew(task, source)
        return task

    @override
    def _learn(self, task: Any, episode_return: float, progress: Any, env_id: int | None) -> None:
        value = self._success(episode_return, progress, task)
        source = self._drawn.peek(task, env_id) or 0
        self._drawn.ended(task, env_id)
        moves, side = divmod(source - 1, len(self._sides))
        if source == 0 or moves != self._moves[side]:
            return
        queue = self._queues[side]
        queue.append(value)
        if len(queue) == self.queue_length:
            self._decide(side, float(np.mean(queue)))
            queue.clear()

    @override
    def update_on_abort(self, task: Any, env_id: int | None = None) -> None:
        self._drawn.ended(task, env_id)

    @override
    def unregister_env(self, env_id: int) -> None:
        super().unregister_env(env_id)
        self._drawn.left(env_id)

    def _decide(self, side: int, performance: float) -> None:
        d = self.cube.dimensions
        outwards = 1.0 if side >= d else -1.0
        if performance >= self.high:
            self._move(side, outwards * self.step)
        elif performance <= self.low:
            self._move(side, -outwards * self.step)

    def _move(self, side: int, by: float) -> None:
        d = self.cube.dimensions
        least, most = (0.0, self._sides[side + d]) if side < d else (self._sides[side - d], 1.0)
        moved = float(np.clip(self._sides[side] + by, least, most))
        if moved != self._sides[side]:
            self._sides[side] = moved
            self._moves[side] += 1

    @override
    def metrics(self) -> dict[str, float]:
        d = self.cube.dimensions
        widths = self._sides[d:] - self._sides[:d]
        # Mean log width: what the paper calls ADR entropy, in nats per coordinate, with a floor for points.
        return {"volume": float(widths.prod()), "entropy": float(np.log(np.maximum(widths, 1e-9)).mean())}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "sides": self._sides.copy(),
            "queues": [list(queue) for queue in self._queues],
            "moves": list(self._moves),
            "drawn": self._drawn.state(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        reader = StateReader(state, type(self).__name__, {"sides", "queues", "moves", "drawn"})
        d = self.cube.dimensions
        sides = reader.array("sides", (2 * d,), low=0.0, high=1.0)
        if (sides[:d] > sides[d:]).any():
            raise reader.fail("sides", "lower sides below upper ones")
        moves = reader.numbers("moves", 2 * d)
        if len(moves) != 2 * d or any(move < 0 or move != int(move) for move in moves):
            raise reader.fail("moves", f"{2 * d} counts")
        queues = self._read_queues(reader)
        drawn = self._drawn.loaded(reader["drawn"], 1 + 2 * d * (int(max(moves)) + 1))
        super().load_state_dict(state)
        self._sides, self._queues, self._drawn = sides, queues, drawn
        self._moves = [int(move) for move in moves]

    def _read_queues(self, reader: StateReader) -> list[list[float]]:
        queues = reader["queues"]
        if not isinstance(queues, list) or len(queues) != len(self._queues):
            raise reader.fail("queues", f"{len(self._queues)} lists")
        inner = {str(i): queue for i, queue in enumerate(queues)}
        each = StateReader({**inner, "type": "queues", "started": 0}, "queues", set(inner))
        return [each.numbers(key, self.queue_length - 1) for key in inner]
