"""Settings: what a run is, as pydantic models without torch."""

from core.config.ablation import SHARED_FIELDS, Ablation, Row
from core.config.files import (
    dump_run,
    parse_ablation,
    parse_run,
    preset_names,
    read_ablation,
    read_preset,
    read_run,
)
from core.config.losses import LOSSES, AlignmentSettings, Cosine, CrossEntropy, Geodesic, Loss, LossSettings, SoftLabels
from core.config.method import Mapping, Method
from core.config.models import Lora, PretrainedStudent, PrunedStudent, Student, Teacher
from core.config.run import Evaluation, RunConfig, Training
from core.config.sources import SOURCES, GeneratedSpeech, Manifest, Source

__all__ = [
    "LOSSES",
    "SHARED_FIELDS",
    "SOURCES",
    "Ablation",
    "AlignmentSettings",
    "Cosine",
    "CrossEntropy",
    "Evaluation",
    "GeneratedSpeech",
    "Geodesic",
    "Lora",
    "Loss",
    "LossSettings",
    "Manifest",
    "Mapping",
    "Method",
    "PretrainedStudent",
    "PrunedStudent",
    "Row",
    "RunConfig",
    "SoftLabels",
    "Source",
    "Student",
    "Teacher",
    "Training",
    "dump_run",
    "parse_ablation",
    "parse_run",
    "preset_names",
    "read_ablation",
    "read_preset",
    "read_run",
]
