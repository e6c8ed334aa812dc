"""Two-player zero-sum games that are solved exactly: ground truth for self-play."""

from games.rules import GAMES, blotto, kuhn_poker, leduc_poker, random_game, rock_paper_scissors
from games.sequence_form import SequenceGame

__all__ = [
    "GAMES",
    "SequenceGame",
    "blotto",
    "kuhn_poker",
    "leduc_poker",
    "random_game",
    "rock_paper_scissors",
]
