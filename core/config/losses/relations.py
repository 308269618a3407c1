"""Settings of the alignments that compare how the points of one side lie to each other with how the other side's do."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from core.config.losses.base import AlignmentSettings, Promise


class Rkd(AlignmentSettings):
    """Relational distillation: distances of pairs, angles of triplets."""

    kind: Literal["rkd"] = "rkd"
    distance: float = Field(default=1.0, ge=0, le=100, description="Factor of the distances' part; no unit.")
    angle: float = Field(default=2.0, ge=0, le=100, description="Factor of the angles' part; no unit.")
    points: int = Field(
        default=64, ge=3, le=512, description="Points compared at most, evenly taken from the batch; the cost is cubic."
    )

    promise: ClassVar[Promise] = "set"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "of mean distances and cosines"
    meaning: ClassVar[str] = "Keep the teacher's distances between points, and the angles of their triangles."
    formula: ClassVar[str] = "a huber(d_ij/mean d) + b huber(cos of angle ijk), student against teacher"
    source: ClassVar[str] = "Park et al. 2019, arXiv 1904.05068"

    @model_validator(mode="after")
    def _compares_something(self) -> "Rkd":
        if not self.distance and not self.angle:
            raise ValueError("rkd compares nothing: set distance or angle above 0")
        return self


class SimilarityPreserving(AlignmentSettings):
    """Which points are alike on either side."""

    kind: Literal["similarity_preserving"] = "similarity_preserving"
    weight: float = Field(default=100.0, gt=0, le=10000, description="Factor of this term in the sum; no unit.")
    points: int = Field(default=256, ge=2, le=4096, description="Points compared at most, evenly taken from the batch.")

    promise: ClassVar[Promise] = "set"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "mean square of similarities"
    meaning: ClassVar[str] = "Keep the similarities that the teacher's points have to each other."
    formula: ClassVar[str] = "|rownorm(H H^T) - rownorm(G G^T)|_F^2 / n^2"
    source: ClassVar[str] = "Tung and Mori 2019, arXiv 1907.09682"


class Cka(AlignmentSettings):
    """Centred kernel alignment of the two point sets, debiased."""

    kind: Literal["cka"] = "cka"

    promise: ClassVar[Promise] = "set"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "1 − debiased CKA"
    meaning: ClassVar[str] = "Match the teacher's point set up to rotation and scale."
    formula: ClassVar[str] = "1 - HSIC(H, G) / sqrt(HSIC(H, H) HSIC(G, G)), linear kernels, unbiased HSIC"
    source: ClassVar[str] = (
        "Kornblith et al. 2019, arXiv 1905.00414; debiased as in Nguyen et al. 2021, arXiv 2010.15327"
    )


class Procrustes(AlignmentSettings):
    """What is left between the two point sets after the best rotation."""

    kind: Literal["procrustes"] = "procrustes"

    promise: ClassVar[Promise] = "set"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "share of the teacher's energy"
    meaning: ClassVar[str] = "Match the teacher's point set up to rotation, with its scale."
    formula: ClassVar[str] = "(|H|_F^2 + |G|_F^2 - 2 |H^T G|_*) / |G|_F^2, centred"
    turns_freely: ClassVar[bool] = True
    source: ClassVar[str] = "Schoenemann 1966; as a distillation loss in Bhattarai et al. 2025, arXiv 2509.25253"


class Gram(AlignmentSettings):
    """Inner products between the points of either side."""

    kind: Literal["gram"] = "gram"

    promise: ClassVar[Promise] = "set"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "share of the teacher's norm"
    meaning: ClassVar[str] = "Keep the teacher's inner products between points: distances and angles, up to rotation."
    formula: ClassVar[str] = "|H H^T - G G^T|_F / |G G^T|_F"
    source: ClassVar[str] = "Bhattarai et al. 2025, arXiv 2509.25253 (feature Gram)"
