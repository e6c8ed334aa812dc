"""Structures to draw from many entries whose weights, ranks or ages change one at a time.

Every structure numbers its entries from 0, is plain Python over numpy arrays, and takes microseconds per
change and per draw at a million entries:

| | draws | change | draw | bytes per entry |
|---|---|---|---|---|
| `SumTree` | in proportion to weights | O(log n) | O(log n) | 16 |
| `OrderIndex` | entry of a rank | O(log n + sqrt n) | O(log n) | 12 to 24 |
| `RankWeights` | ranks by a power law | none | O(log n) | at most 8 |
| `AgeTree` | in proportion to a power of the age | O(log n), a tick O(1) | O(log n) | 24 |
| `Partition` | uniformly, from either of two sides | O(1) | O(1) | 8 |

Draws take uniform numbers from [0, 1), or a generator where they need several.
"""

from macurr.sampling.ages import AgeTree
from macurr.sampling.order import OrderIndex
from macurr.sampling.partition import Partition
from macurr.sampling.ranks import RankWeights
from macurr.sampling.sum_tree import SumTree

__all__ = ["AgeTree", "OrderIndex", "Partition", "RankWeights", "SumTree"]
