"""Exact equilibria of two-player zero-sum games by linear programming (HiGHS, through SciPy)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import null_space
from scipy.optimize import linprog

from macurr.errors import SolverError
from macurr.opponents.games import as_matrix

__all__ = ["NashAverage", "nash", "nash_averaging"]

_TOLERANCE = 1e-10  # the tightest that HiGHS accepts


class NashAverage(NamedTuple):
    """What `nash_averaging` found.

    Attributes:
        rows: Probabilities of the rows, shape (m,).
        columns: Probabilities of the columns, shape (n,).
        row_skills: What each row earns against `columns`, shape (m,).
        column_skills: What each column earns against `rows`, shape (n,); a task's difficulty.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    row_skills: NDArray[np.float64]
    column_skills: NDArray[np.float64]


def nash(payoffs: ArrayLike) -> list[NDArray[np.float64]]:
    """A Nash equilibrium of a two-player zero-sum game, by linear programming.

    Where there are several, this is the one that the simplex method stops at: a vertex, the same for the same
    payoffs. `nash_averaging` finds the one of greatest entropy, which is unique.

    Args:
        payoffs: The row player's payoffs (m, n), or both players' matrices summing to zero.

    Returns:
        The row player's probabilities (m,) and the column player's (n,).

    Raises:
        SolverError: the game is not two-player zero-sum, a payoff is not finite, or the program has no solution.
    """
    matrix = _scaled(as_matrix(payoffs))
    return [_maximin(matrix)[0], _maximin(-matrix.T)[0]]


def nash_averaging(payoffs: ArrayLike) -> NashAverage:
    """The Nash equilibrium of greatest entropy, and every strategy's payoff against it (Balduzzi et al. 2018).

    Agents against agents: an antisymmetric matrix (win rate less a half, say); rows and columns get the same
    weights. Agents against tasks: scores with agents as rows and tasks as columns, in units that compare across
    tasks. Where the equilibrium is unique, duplicates of a strategy share its weight and change nothing else, unlike
    in a plain mean; among several equilibria, entropy leans towards those with many copies.

    Args:
        payoffs: The row player's payoffs (m, n), or both players' matrices summing to zero.

    Returns:
        A `NashAverage`.

    Raises:
        SolverError: the game is not two-player zero-sum, a payoff is not finite, or no solution is found.
    """
    matrix = as_matrix(payoffs)
    scaled = _scaled(matrix)
    antisymmetric = scaled.shape[0] == scaled.shape[1] and np.array_equal(scaled, -scaled.T)
    # The value of a symmetric game is 0 exactly; solving for it would only add rounding.
    value = 0.0 if antisymmetric else _maximin(scaled)[1]
    rows = _max_entropy(scaled - value)
    columns = rows if antisymmetric else _max_entropy(value - scaled.T)
    return NashAverage(rows, columns, matrix @ columns, 0.0 - matrix.T @ rows)


def _scaled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same game in units in which the solver's tolerances mean something; its equilibria are the same."""
    return matrix / (float(np.abs(matrix).max()) or 1.0)


def _maximin(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The row player's optimal mixture and its value: maximise v with matrix^T p >= v."""
    m, n = matrix.shape
    solution = _solve(
        np.append(np.zeros(m), -1.0),
        upper=np.hstack([-matrix.T, np.ones((n, 1))]),
        equal=np.append(np.ones(m), 0.0)[None, :],
        bounds=[(0, None)] * m + [(None, None)],
    )
    mixture = np.maximum(solution[:m], 0.0)
    return mixture / mixture.sum(), float(solution[m])


def _max_entropy(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mixture p of greatest entropy with margins^T p >= 0.

    One program finds the strategies that can have weight at all and the constraints that can be slack at all, by
    a mixture that shows every one of them. On this support, and with the other constraints as equations, the
    problem has an interior, where Newton's method with a vanishing barrier ends at the maximum.
    """
    mixture, support, slack = _interior(margins)
    inner = margins[support]
    equations = np.vstack([np.ones(support.sum()), inner[:, ~slack].T])
    free = inner[:, slack].T
    start = mixture[support]
    # The linear program is exact to its tolerance only; this puts the start right onto the equations.
    target = np.append(1.0, np.zeros(len(equations) - 1))
    start = start + np.linalg.lstsq(equations, target - equations @ start, rcond=None)[0]
    if start.min() <= 0 or (free @ start < 0).any():
        raise SolverError(
            "The equilibria of this game are too ill-conditioned to tell their support. Round the payoffs, or "
            "use nash, which settles for any equilibrium."
        )
    result = np.zeros(len(margins))
    p = _newton(start, null_space(equations, rcond=1e-9), free)
    result[support] = p / p.sum()
    return result


def _interior(
    margins: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """An equilibrium in the relative interior, its support, and which constraints are slack there.

    Weights q need not sum to 1 here, so every weight and slack that can be positive at all can reach 1.
    """
    m, n = margins.shape
    size = m + n
    reach = np.vstack([np.eye(m), margins.T])  # weights, then slacks, as functions of q
    solution = _solve(
        np.append(np.zeros(m), -np.ones(size)),
        upper=np.hstack([-reach, np.eye(size)]),
        bounds=[(0, None)] * m + [(0, 1)] * size,
    )
    shown = solution[m:] > 0.5
    weights = np.where(shown[:m], solution[:m], 0.0)
    return weights / weights.sum(), shown[:m], shown[m:]


def _newton(
    start: NDArray[np.float64], directions: NDArray[np.float64], free: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimise sum p log p over p = start + directions z with free p >= 0, by a primal barrier."""
    p = start
    for barrier in 10.0 ** -np.arange(1.0, 14.0) if directions.shape[1] else ():
        for _ in range(100):
            scaled = free / (free @ p)[:, None]
            gradient = directions.T @ (np.log(p) + 1.0 - barrier * scaled.sum(axis=0))
            hessian = directions.T @ (np.diag(1.0 / p) + barrier * scaled.T @ scaled) @ directions
            z = np.linalg.solve(hessian, -gradient)
            if -gradient @ z < 1e-20:
                break
            p = _descend(p, directions @ z, free, barrier)
    return p


def _descend(
    p: NDArray[np.float64], step: NDArray[np.float64], free: NDArray[np.float64], barrier: float
) -> NDArray[np.float64]:
    """Go along `step`, short of the border, as far as the objective falls."""

    def objective(p: NDArray[np.float64]) -> float:
        return float(p @ np.log(p) - barrier * np.log(free @ p).sum())

    values, changes = np.concatenate([p, free @ p]), np.concatenate([step, free @ step])
    falling = changes < 0
    length = min(1.0, 0.99 * float(np.min(-values[falling] / changes[falling], initial=np.inf)))
    before = objective(p) + 1e-15  # the last steps change it by less than its rounding
    while length > 1e-12 and objective(p + length * step) > before:
        length /= 2.0
    moved: NDArray[np.float64] = p + length * step
    return moved


def _solve(
    cost: NDArray[np.float64],
    *,
    upper: NDArray[np.float64],
    bounds: list[tuple[float | None, float | None]],
    equal: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Minimise cost . x with upper x <= 0 and equal x = 1."""
    found: Any = linprog(
        cost,
        A_ub=upper,
        b_ub=np.zeros(len(upper)),
        A_eq=equal,
        b_eq=None if equal is None else np.ones(len(equal)),
        bounds=bounds,
        method="highs-ds",
        options={"primal_feasibility_tolerance": _TOLERANCE, "dual_feasibility_tolerance": _TOLERANCE},
    )
    if not found.success:
        raise SolverError(f"The linear program of this game was not solved: {found.message}")
    solution: NDArray[np.float64] = found.x
    return solution
