"""How environments reach their curriculum: in the same process, over a socket, or over Ray."""

from macurr.transports.base import Components, Link, SyncedCurriculum
from macurr.transports.local import LocalComponents, LocalCurriculum, make_local_curriculum
from macurr.transports.process import (
    MultiProcessingCurriculum,
    ProcessComponents,
    make_multiprocessing_curriculum,
)
from macurr.transports.ray import RayComponents, RayCurriculum, get_ray_curriculum, make_ray_curriculum

__all__ = [
    "Components",
    "Link",
    "LocalComponents",
    "LocalCurriculum",
    "MultiProcessingCurriculum",
    "ProcessComponents",
    "RayComponents",
    "RayCurriculum",
    "SyncedCurriculum",
    "get_ray_curriculum",
    "make_local_curriculum",
    "make_multiprocessing_curriculum",
    "make_ray_curriculum",
]
