"""From two models' states to one aligned space: which layers meet, and through which map.

    student states --projection-------> - mean --> (whitening) --\
                                                                  > compared by a loss
    teacher states --(fixed basis)----> - mean --> (whitening) --/

Projections live outside the student: they are trained and counted, and discarded at export. The teacher's side is
fixed: two trainable sides would collapse to constants.
"""

from core.mapping.layers import Depth, LayerPair, Side, layer_pairs
from core.mapping.point_map import PointMap, PointMaps, Statistics, width_problem
from core.mapping.statistics import StateStatistics, state_statistics

__all__ = [
    "Depth",
    "LayerPair",
    "PointMap",
    "PointMaps",
    "Side",
    "StateStatistics",
    "Statistics",
    "layer_pairs",
    "state_statistics",
    "width_problem",
]
