"""Entries in PettingZoo's registry."""

from __future__ import annotations

import pettingzoo

NAMES = ("apple_race", "laser_tag")


def register_envs() -> None:
    """Enter the bundled environments in PettingZoo's registry, where there is one; may be called again."""
    # There is none before PettingZoo 1.27.
    register = getattr(pettingzoo, "register", None)
    if register is None:
        return
    for name in NAMES:
        for kind, entry_point in (("parallel", "parallel_env"), ("aec", "env")):
            env_id = f"macurr/{name}-v0"
            if env_id not in getattr(pettingzoo, f"{kind}_registry"):
                register(kind, env_id, entry_point=f"macurr.envs.{name}_v0:{entry_point}")
