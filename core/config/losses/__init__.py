"""Settings of every loss. The mathematics of kind ``x`` stands in ``core/losses/x.py``.

To add a loss: write its settings in one of the files here and its formula there, and name both in `Loss` below and in
``core.losses``.
"""

from typing import Annotated, get_args

from pydantic import Field

from core.config.losses.base import AlignmentSettings, LossSettings, TokenLossSettings
from core.config.losses.points import (
    AttentionTransfer,
    Cosine,
    Curve,
    Geodesic,
    Hint,
    InfoNce,
    Mse,
    ProjectionOnly,
)
from core.config.losses.relations import Cka, Gram, Procrustes, Rkd, SimilarityPreserving
from core.config.losses.tokens import (
    CrossEntropy,
    Dkd,
    FisherRao,
    SoftLabels,
    SphericalLogits,
    StandardisedLogits,
    Taid,
)

Loss = Annotated[
    CrossEntropy
    | SoftLabels
    | Dkd
    | StandardisedLogits
    | SphericalLogits
    | Taid
    | FisherRao
    | Geodesic
    | Cosine
    | Mse
    | Hint
    | Curve
    | InfoNce
    | AttentionTransfer
    | Rkd
    | SimilarityPreserving
    | Cka
    | Procrustes
    | Gram
    | ProjectionOnly,
    Field(discriminator="kind"),
]

LOSSES: tuple[type[LossSettings], ...] = get_args(get_args(Loss)[0])

__all__ = [
    "LOSSES",
    "AlignmentSettings",
    "AttentionTransfer",
    "Cka",
    "Cosine",
    "CrossEntropy",
    "Curve",
    "Dkd",
    "FisherRao",
    "Geodesic",
    "Gram",
    "Hint",
    "InfoNce",
    "Loss",
    "LossSettings",
    "Mse",
    "Procrustes",
    "ProjectionOnly",
    "Rkd",
    "SimilarityPreserving",
    "SoftLabels",
    "SphericalLogits",
    "StandardisedLogits",
    "Taid",
    "TokenLossSettings",
]
