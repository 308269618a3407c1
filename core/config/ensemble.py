"""Settings of an ensemble: how several teachers become one."""

from typing import Literal

from pydantic import Field

from core.config.base import Settings

Combine = Literal["mean", "weighted", "best", "single"]


class Ensemble(Settings):
    """How several teachers become one. With one teacher nothing of this counts."""

    combine: Combine = Field(
        default="mean",
        description=(
            "How much each teacher counts. mean: all alike; weighted: softmax of (100 - WER) / temperature, WER in "
            "percent on the development set; best: for each utterance only the teacher that finds its transcript "
            "likeliest; single: only the teacher with the lowest WER on the development set."
        ),
    )
    temperature: float = Field(
        default=5.0,
        gt=0,
        le=1000,
        description="Of the weighted mean, in points of WER: the smaller, the more the best teacher counts.",
    )
    states: Literal["per_teacher", "mean"] = Field(
        default="per_teacher",
        description=(
            "per_teacher: the student's states meet those of every teacher, each through a projection of its own; "
            "mean: they meet the spherical mean of the teachers' states (teachers of one shape only)."
        ),
    )

    @property
    def label(self) -> str:
        """What results of the ensemble are called."""
        return f"weighted, temperature {self.temperature:g}" if self.combine == "weighted" else self.combine
