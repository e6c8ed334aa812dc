"""What became of the members of a population, as lines of a history and in words."""

from __future__ import annotations

from typing import Any

from macurr.training.config import TrainConfig
from macurr.training.population import Decision
from macurr.training.population_runs import Outcome

__all__ = ["fingerprint_of", "note_of", "row_of"]


def row_of(
    scope: str, update: int, steps: int, member: int | str, what: Decision | Outcome, of: int
) -> dict[str, Any]:
    """A line of the history.

    Args:
        scope: "policies" or "runs".
        update: The number of the update.
        steps: Environment steps so far.
        member: The policy, or the run.
        what: What became of it.
        of: How many members there were.
    """
    return {
        "scope": scope,
        "update": update,
        "steps": steps,
        "member": member,
        "rank": what.rank,
        "of": of,
        "objective": what.objective,
        "copied_from": what.copy_from,
        "settings": what.settings,
    }


def note_of(who: str, what: Decision | Outcome) -> str | None:
    """What became of a member in words; None where it stays as it is."""
    said = [] if what.copy_from is None else [f"goes on with the weights of {what.copy_from}"]
    said += [
        f"{name} {what.before[name]:.4g} -> {value:.4g}"
        for name, value in what.settings.items()
        if value != what.before[name]
    ]
    if not said:
        return None
    return f"{who} (place {what.rank + 1}, objective {what.objective:.4g}): {', '.join(said)}"


def fingerprint_of(config: TrainConfig) -> str:
    """What runs must have in common to exchange their policies, in words."""
    tuned, policies = config.pbt.pbt_env_args, config.policies
    arguments = ", ".join(
        f"{name}={'tuned' if name in tuned else repr(value)}"
        for name, value in sorted(config.env_args.items())
    )
    return (
        f"{config.env}({arguments}) ranked by {config.pbt.pbt_objective}, with {policies.num_policies} policies mapped "
        f"by {policies.mapping}, and {config.model}"
    )
