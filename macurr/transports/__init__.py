"""How environments reach their curriculum: in the same process, over a socket, or over Ray."""

from macurr.transports.base import Components, Link, Shareable, SyncedCurriculum, shared
from macurr.transports.local import LocalComponents, LocalCurriculum, make_local_curriculum
from macurr.transports.process import (
    MultiProcessingCurriculum,
    ProcessComponents,
    SharedComponents,
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
    "Shareable",
    "SharedComponents",
    "SyncedCurriculum",
    "get_ray_curriculum",
    "make_local_curriculum",
    "make_multiprocessing_curriculum",
    "make_ray_curriculum",
    "shared",
]
