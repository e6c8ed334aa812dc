"""Where a run's curriculum lives and its environments are stepped: in this process, in others, or on a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from macurr import Curriculum, make_local_curriculum, make_multiprocessing_curriculum
from macurr.training.config import TrainConfig
from macurr.training.frames import FrameShape
from macurr.training.ray_engine import RayEnv, ray_served, ray_session
from macurr.training.vector import Environments, VectorEnv
from macurr.training.worker import Job

__all__ = ["serving", "stepping"]

_CHECKPOINT = "curriculum.ray"


@contextmanager
def serving(config: TrainConfig, curriculum: Curriculum, folder: Path) -> Iterator[Any]:
    """The synced curriculum, for the time of a `with` block.

    Args:
        config: The run's settings.
        curriculum: The curriculum.
        folder: The run's directory; with engine "ray" the curriculum's actor saves itself there.
    """
    if config.engine == "ray":
        file = folder / _CHECKPOINT
        file.unlink(missing_ok=True)  # of an earlier sitting, whose end is in the run's own checkpoint
        with (
            ray_session(config.ray_address),
            ray_served(curriculum, f"macurr-{uuid.uuid4().hex}", file) as synced,
        ):
            yield synced
    elif config.transport == "local":
        with make_local_curriculum(curriculum) as synced:
            yield synced
    else:
        with make_multiprocessing_curriculum(curriculum) as synced:
            yield synced


def stepping(
    config: TrainConfig, jobs: Sequence[Job], shapes: Sequence[FrameShape]
) -> AbstractContextManager[Environments]:
    """The environments of a run, in groups."""
    if config.engine == "ray":
        return RayEnv(jobs, shapes, splits=config.num_splits)
    local, timeout = config.transport == "local", config.worker_timeout
    return VectorEnv(jobs, shapes, local=local, splits=config.num_splits, timeout=timeout)
