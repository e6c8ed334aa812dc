"""The curricula: one file per family, imported as `macurr.curricula`."""

if __name__ == "curricula":
    raise ImportError(
        "This folder was imported as the top-level package 'curricula', which would load every class twice, "
        "the second time under another name. Import it as 'macurr.curricula'."
    )

from macurr.curricula.adr import AutomaticDomainRandomization
from macurr.curricula.alp_gmm import AbsoluteLearningProgressGMM, CovarGMM
from macurr.curricula.annealing import AnnealingBox, ExpandingBox
from macurr.curricula.basic import Constant, DomainRandomization
from macurr.curricula.batched import BatchedDomainRandomization, SyncedBatchedDomainRandomization
from macurr.curricula.combinators import Filtered, Mixture
from macurr.curricula.league import League, LeagueAdvice
from macurr.curricula.league_player import LeaguePlayer
from macurr.curricula.league_roles import LeagueExploiter, MainAgent, MainExploiter
from macurr.curricula.learnability import Learnability
from macurr.curricula.learning_progress import LearningProgress
from macurr.curricula.manual import FixedSequence, Manual, Noop
from macurr.curricula.opponents import OpponentCurriculum
from macurr.curricula.plr import ACCEL, PrioritizedLevelReplay, RobustPLR
from macurr.curricula.psro import PolicySpaceResponseOracles
from macurr.curricula.quality import QualitySelfPlay
from macurr.curricula.riac import RIAC
from macurr.curricula.self_paced import SelfPaced
from macurr.curricula.self_play import (
    DeltaUniformSelfPlay,
    FictitiousSelfPlay,
    PrioritizedFictitiousSelfPlay,
    SelfPlay,
)
from macurr.curricula.sequential import Schedule, Sequential
from macurr.curricula.stratified_progress import StratifiedLearningProgress

__all__ = [
    "ACCEL",
    "RIAC",
    "AbsoluteLearningProgressGMM",
    "AnnealingBox",
    "AutomaticDomainRandomization",
    "BatchedDomainRandomization",
    "Constant",
    "CovarGMM",
    "DeltaUniformSelfPlay",
    "DomainRandomization",
    "ExpandingBox",
    "FictitiousSelfPlay",
    "Filtered",
    "FixedSequence",
    "League",
    "LeagueAdvice",
    "LeagueExploiter",
    "LeaguePlayer",
    "Learnability",
    "LearningProgress",
    "MainAgent",
    "MainExploiter",
    "Manual",
    "Mixture",
    "Noop",
    "OpponentCurriculum",
    "PolicySpaceResponseOracles",
    "PrioritizedFictitiousSelfPlay",
    "PrioritizedLevelReplay",
    "QualitySelfPlay",
    "RobustPLR",
    "Schedule",
    "SelfPaced",
    "SelfPlay",
    "Sequential",
    "StratifiedLearningProgress",
    "SyncedBatchedDomainRandomization",
]
