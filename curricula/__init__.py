"""The curricula: one file per family, imported as `macurr.curricula`."""

if __name__ == "curricula":
    raise ImportError(
        "This folder was imported as the top-level package 'curricula', which would load every class twice, "
        "the second time under another name. Import it as 'macurr.curricula'."
    )

from macurr.curricula.basic import Constant, DomainRandomization
from macurr.curricula.opponents import OpponentCurriculum
from macurr.curricula.plr import ACCEL, PrioritizedLevelReplay, RobustPLR
from macurr.curricula.psro import PolicySpaceResponseOracles
from macurr.curricula.quality import QualitySelfPlay
from macurr.curricula.self_play import (
    DeltaUniformSelfPlay,
    FictitiousSelfPlay,
    PrioritizedFictitiousSelfPlay,
    SelfPlay,
)

__all__ = [
    "ACCEL",
    "Constant",
    "DeltaUniformSelfPlay",
    "DomainRandomization",
    "FictitiousSelfPlay",
    "OpponentCurriculum",
    "PolicySpaceResponseOracles",
    "PrioritizedFictitiousSelfPlay",
    "PrioritizedLevelReplay",
    "QualitySelfPlay",
    "RobustPLR",
    "SelfPlay",
]
