"""Settings of the alignments that compare states pair by pair: point with point, or curve with curve."""

from typing import ClassVar, Literal

from pydantic import Field

from core.config.losses.base import AlignmentSettings, Promise


class Geodesic(AlignmentSettings):
    """The angle between paired states on the unit sphere: the method's own term."""

    kind: Literal["geodesic"] = "geodesic"

    promise: ClassVar[Promise] = "points"
    unit: ClassVar[str] = "radians, mean over the batch's points"
    meaning: ClassVar[str] = "Turn each student state towards its teacher state, measured along the sphere."
    formula: ClassVar[str] = "mean_i 2 atan2(|u_i - v_i|, |u_i + v_i|), u and v normalised"
    source: ClassVar[str] = "arXiv 2606.00771 (layer- and point-wise mapping; stable form ours)"


class Cosine(AlignmentSettings):
    """One minus the cosine between paired states: the chord, the control for the arc."""

    kind: Literal["cosine"] = "cosine"

    promise: ClassVar[Promise] = "points"
    unit: ClassVar[str] = "1 − cosine"
    meaning: ClassVar[str] = "Turn each student state towards its teacher state, measured along the chord."
    formula: ClassVar[str] = "mean_i (1 - <u_i, v_i>), u and v normalised"
    source: ClassVar[str] = "Sanh et al. 2019, arXiv 1910.01108 (DistilBERT's cosine term)"


class Mse(AlignmentSettings):
    """Squared distance between paired states as a share of the teacher's energy: the flat space."""

    kind: Literal["mse"] = "mse"

    promise: ClassVar[Promise] = "points"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "share of the teacher's energy"
    meaning: ClassVar[str] = "Move each student state to its teacher state, direction and length, in a flat space."
    formula: ClassVar[str] = "mean_i |h_i - g_i|^2 / mean_i |g_i|^2"
    source: ClassVar[str] = "the Euclidean control; layer-mapped MSE of arXiv 2311.00430, app. D.2, made free of scale"


class Hint(AlignmentSettings):
    """FitNets: a regressor takes student states to the teacher's."""

    kind: Literal["hint"] = "hint"

    promise: ClassVar[Promise] = "points"
    unit: ClassVar[str] = "half the mean square"
    meaning: ClassVar[str] = "Regress the teacher's states from the student's, as they are."
    formula: ClassVar[str] = "mean_i 1/2 |W h_i - g_i|^2 / width"
    source: ClassVar[str] = "Romero et al. 2015, arXiv 1412.6550"


class Curve(AlignmentSettings):
    """An utterance as a curve on the sphere: its points, velocities and curvatures."""

    kind: Literal["curve"] = "curve"
    velocity: float = Field(default=0.5, ge=0, le=100, description="Factor of the velocities' part; no unit.")
    curvature: float = Field(default=0.1, ge=0, le=100, description="Factor of the bends' part; no unit.")

    promise: ClassVar[Promise] = "utterances"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "radians, velocities and bends weighed in"
    meaning: ClassVar[str] = "Follow the teacher's path over the sphere in time: position, velocity and curvature."
    formula: ClassVar[str] = (
        "geodesic + a mean_i |P log_u(u+1) - log_v(v+1)| + b mean_i |k_u - k_v|, P: u to v, k: 2 sin(turn / 2)"
    )
    source: ClassVar[str] = "arXiv 2606.00771 (the curve variant is named there; formulas ours)"


class AttentionTransfer(AlignmentSettings):
    """Where in time the energy of the states lies."""

    kind: Literal["attention_transfer"] = "attention_transfer"
    weight: float = Field(default=100.0, gt=0, le=1000, description="Factor of this term in the sum; no unit.")

    promise: ClassVar[Promise] = "utterances"
    unit: ClassVar[str] = "squared distance of profiles"
    meaning: ClassVar[str] = "Match the teacher's profile of activity over the time of an utterance."
    formula: ClassVar[str] = "mean over utterances of |Q_S/|Q_S| - Q_T/|Q_T||^2, Q_t = sum_c h_tc^2"
    source: ClassVar[str] = "Zagoruyko and Komodakis 2017, arXiv 1612.03928"


class InfoNce(AlignmentSettings):
    """Contrast: each student state nearer to its own teacher state than to others of the batch."""

    kind: Literal["infonce"] = "infonce"
    final: float = Field(
        default=0.1, ge=0, le=10, description="Factor of the weight at its end, reached linearly; 1 keeps the weight."
    )
    temperature: float = Field(default=0.1, gt=0, le=10, description="Divides the cosines; no unit.")
    points: int = Field(default=256, ge=2, le=4096, description="Points compared at most, evenly taken from the batch.")

    promise: ClassVar[Promise] = "set"
    whole_batch: ClassVar[bool] = True
    unit: ClassVar[str] = "nats per point"
    meaning: ClassVar[str] = "Distinguish each teacher state from all others of the batch."
    formula: ClassVar[str] = "-mean_i log(exp(<u_i, v_i>/t) / sum_j exp(<u_i, v_j>/t))"
    source: ClassVar[str] = "van den Oord et al. 2018, arXiv 1807.03748; in the method by its first author's notes"


class ProjectionOnly(AlignmentSettings):
    """The null: the projection learns, the student does not."""

    kind: Literal["projection_only"] = "projection_only"

    reaches_student: ClassVar[bool] = False
    promise: ClassVar[Promise] = "points"
    unit: ClassVar[str] = "radians, mean over the batch's points"
    meaning: ClassVar[str] = "Nothing: only the projection is trained, so the row must equal the one without it."
    formula: ClassVar[str] = "geodesic of states without gradient: mean_i d(W sg(h_i), g_i)"
    source: ClassVar[str] = "ours: the alignment that aligns nothing, as a labelled null"
