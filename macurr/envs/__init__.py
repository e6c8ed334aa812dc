"""Bundled environments: fast two-player games whose levels are decided by seeds.

`apple_race_v0` and `laser_tag_v0` are modules with `parallel_env`, `env` and `raw_env`, as PettingZoo's own
environments are. Where PettingZoo has a registry (from 1.27 on), importing this package also enters them there, so
that `pettingzoo.make("parallel", "macurr/apple_race-v0")` works.
"""

from macurr.envs import apple_race_v0, laser_tag_v0
from macurr.envs._registration import register_envs as _register_envs
from macurr.envs.scripted import bfs_policy

__all__ = ["apple_race_v0", "bfs_policy", "laser_tag_v0"]

_register_envs()
