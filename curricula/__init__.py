"""The curricula: one file per family, imported as `macurr.curricula`."""

if __name__ == "curricula":
    raise ImportError(
        "This folder was imported as the top-level package 'curricula', which would load every class twice, "
        "the second time under another name. Import it as 'macurr.curricula'."
    )

from macurr.curricula.basic import Constant, DomainRandomization
from macurr.curricula.plr import ACCEL, PrioritizedLevelReplay, RobustPLR

__all__ = [
    "ACCEL",
    "Constant",
    "DomainRandomization",
    "PrioritizedLevelReplay",
    "RobustPLR",
]
