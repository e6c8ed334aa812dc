"""Two-player zero-sum games with imperfect information in sequence form, and their exact best responses.

A player's policy is a realization plan: for each sequence of its own actions, the product of their probabilities
(von Stengel 1996). Payoffs are bilinear in the plans, and a mixture of policies is the mixture of their plans.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

Plan = NDArray[np.float64]


class Infoset(NamedTuple):
    """What a player knows when it moves: its own last sequence, and the sequences that its moves lead to."""

    parent: int
    moves: slice


class SequenceGame:
    """A game tree (see `games.rules`) in sequence form.

    Attributes:
        infosets: For each player, its information sets, each after those that lead to it.
        sizes: The number of sequences of each player; sequence 0 is empty.
        payoffs: What the first player is paid for each pair of sequences, chance included.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.infosets: list[list[Infoset]] = [[], []]
        self.sizes = [1, 1]
        self._places: list[dict[Any, int]] = [{}, {}]
        self._paid: list[tuple[int, int, float]] = []
        self._reached: list[list[tuple[int, int, float]]] = [[], []]
        self._visit(tree, (0, 0), 1.0)
        self.payoffs = _sparse(self._paid, (self.sizes[0], self.sizes[1]))
        # How likely chance and the other player are to let each information set come up.
        self._reach = [_sparse(self._reached[p], (len(self.infosets[p]), self.sizes[1 - p])) for p in (0, 1)]

    def _visit(self, node: Any, sequences: tuple[int, int], chance: float) -> None:
        if node[0] == "end":
            self._paid.append((*sequences, chance * node[1]))
        elif node[0] == "chance":
            for probability, child in node[1]:
                self._visit(child, sequences, chance * probability)
        else:
            _, player, key, children = node
            place = self._place(player, key, sequences[player], len(children))
            self._reached[player].append((place, sequences[1 - player], chance))
            first = self.infosets[player][place].moves.start
            for move, child in enumerate(children):
                after = (first + move, sequences[1]) if player == 0 else (sequences[0], first + move)
                self._visit(child, after, chance)

    def _place(self, player: int, key: Any, parent: int, moves: int) -> int:
        place = self._places[player].get(key)
        if place is None:
            place = self._places[player][key] = len(self.infosets[player])
            first = self.sizes[player]
            self.infosets[player].append(Infoset(parent, slice(first, first + moves)))
            self.sizes[player] += moves
        return place

    # Policies

    def uniform(self, player: int) -> Plan:
        """The plan that moves at random."""
        return self.plan(player, [np.ones(i.moves.stop - i.moves.start) for i in self.infosets[player]])

    def random(self, player: int, rng: np.random.Generator) -> Plan:
        """A pure plan drawn at random."""
        sizes = [i.moves.stop - i.moves.start for i in self.infosets[player]]
        return self.plan(player, [np.eye(n)[rng.integers(n)] for n in sizes])

    def plan(self, player: int, behaviour: list[NDArray[np.float64]]) -> Plan:
        """The plan of a policy that gives weights to the moves of each information set."""
        plan = np.ones(self.sizes[player])
        for infoset, weights in zip(self.infosets[player], behaviour, strict=True):
            plan[infoset.moves] = plan[infoset.parent] * weights / weights.sum()
        return plan

    def value(self, first: Plan, second: Plan) -> float:
        """What the first player is paid on average."""
        return float(first @ (self.payoffs @ second))

    def play(self, plans: tuple[Plan, Plan], rng: np.random.Generator) -> float:
        """Play a game once; returns what the first player is paid."""
        node = self.tree
        while node[0] != "end":
            if node[0] == "chance":
                weights, children = np.array([p for p, _ in node[1]]), [child for _, child in node[1]]
            else:
                _, player, key, children = node
                weights = plans[player][self.infosets[player][self._places[player][key]].moves]
            heights = np.cumsum(weights)
            node = children[int(np.searchsorted(heights, rng.random() * heights[-1], side="right"))]
        return float(node[1])

    # Answers

    def rewards(self, player: int, other: Plan) -> Plan:
        """What each of a player's sequences earns where it ends the game, against a plan of the other."""
        result: Plan = self.payoffs @ other if player == 0 else -(self.payoffs.T @ other)
        return result

    def best_response(
        self, player: int, other: Plan, rng: np.random.Generator | None = None
    ) -> tuple[float, Plan]:
        """The most that a player can earn against a plan of the other, and a pure plan that earns it.

        Args:
            player: 0 or 1.
            other: The other's plan.
            rng: Draws among moves that are equally good; None takes the first.
        """
        values = self.rewards(player, other)
        chosen = [0] * len(self.infosets[player])
        for place, (parent, moves) in reversed(list(enumerate(self.infosets[player]))):
            own = values[moves]
            best = np.flatnonzero(own >= own.max() - 1e-12)
            chosen[place] = moves.start + int(best[0] if rng is None else rng.choice(best))
            values[parent] += own.max()
        plan = np.zeros(self.sizes[player])
        plan[0] = 1.0
        for (parent, _), move in zip(self.infosets[player], chosen, strict=True):
            plan[move] = plan[parent]
        return float(values[0]), plan

    def action_values(
        self, player: int, behaviour: list[NDArray[np.float64]], other: Plan
    ) -> list[NDArray[np.float64]]:
        """What each move earns if the information set has come up and the player goes on by `behaviour`."""
        values = self.rewards(player, other)
        reach = self._reach[player] @ other
        result = [np.zeros(0)] * len(behaviour)
        for place, (parent, moves) in reversed(list(enumerate(self.infosets[player]))):
            own = values[moves]
            result[place] = own / reach[place] if reach[place] > 0 else np.zeros_like(own)
            values[parent] += own @ behaviour[place]
        return result

    def nash_conv(self, first: Plan, second: Plan) -> float:
        """How much both players together gain by best responses; twice the exploitability."""
        return self.best_response(0, second)[0] + self.best_response(1, first)[0]

    def equilibrium(self) -> tuple[float, Plan]:
        """The game's value, and an optimal plan of the first player, by linear programming (Koller et al. 1996)."""
        n, infosets = self.sizes[0], self.infosets[1]
        # Variables: the plan, then the second player's values, of the root and of each of its information sets.
        flow = np.zeros((1 + len(self.infosets[0]), n + 1 + len(infosets)))
        flow[0, 0] = 1.0
        for row, (parent, moves) in enumerate(self.infosets[0], start=1):
            flow[row, parent], flow[row, moves] = -1.0, 1.0
        # A sequence of the second player is worth what it pays and the values of what it leads to, or more.
        bound = np.zeros((self.sizes[1], n + 1 + len(infosets)))
        bound[:, :n] = -self.payoffs.T.toarray()
        bound[0, n] = 1.0
        for place, (parent, moves) in enumerate(infosets, start=n + 1):
            bound[parent, place] -= 1.0
            bound[moves, place] += 1.0
        cost = np.zeros(bound.shape[1])
        cost[n] = -1.0
        found = linprog(
            cost,
            A_ub=bound,
            b_ub=np.zeros(len(bound)),
            A_eq=flow,
            b_eq=np.append(1.0, np.zeros(len(flow) - 1)),
            bounds=[(0, None)] * n + [(None, None)] * (1 + len(infosets)),
            method="highs",
        )
        return float(found.x[n]), found.x[:n]


def _sparse(entries: list[tuple[int, int, float]], shape: tuple[int, int]) -> Any:
    rows, columns, values = zip(*entries, strict=True)
    return csr_matrix((values, (rows, columns)), shape=shape)
