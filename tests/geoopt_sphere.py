"""The unit sphere as geoopt has it, in double precision: a reference that shares no line with ours."""

import warnings

with warnings.catch_warnings():
    # geoopt 0.5.1 compiles a few functions in a way that torch 2.13 calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from geoopt.manifolds import Sphere

from torch import Tensor

SPHERE = Sphere()


def transported(start: Tensor, end: Tensor, vector: Tensor) -> Tensor:
    """Carry a vector along the great circle by turning the plane of start and end (geoopt projects instead)."""
    towards = SPHERE.logmap(start, end)
    angle = towards.norm()
    axis = towards / angle
    along = vector @ axis
    return vector + along * ((angle.cos() - 1) * axis - angle.sin() * start)
