"""The Ray transport: one curriculum for a cluster, in an actor of its own. Needs the extra `ray`.

Environments and the learner write numbered letters to the actor. A process has one agent for all its environments,
a thread that keeps at most one letter under way; tasks come back with the replies. So neither a step nor a reset
calls Ray. Letters go on a connection of the process's own to the actor, and by Ray's calls where there is none or it
breaks. The actor writes checkpoints; after a restart it goes on from the last one, and everybody sends again what
came later.

Ray is imported when a curriculum is made or connected to, not before.
"""

from macurr.transports.ray.learner import RayCurriculum
from macurr.transports.ray.links import RayComponents
from macurr.transports.ray.make import get_ray_curriculum, make_ray_curriculum

__all__ = ["RayComponents", "RayCurriculum", "get_ray_curriculum", "make_ray_curriculum"]
