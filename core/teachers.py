"""Finding teachers by their names: pretrained models, and the students of other runs.

openai/whisper-tiny.en    a folder, the Hub, or a package
run:rabcdefg              the student of a finished run, its best adapters at work
row:fast speech           the student of an earlier row of the same job
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from transformers import WhisperForConditionalGeneration

from core.config import ROW, RUN, RunConfig
from core.errors import ModelError
from core.families.whisper import Whisper
from core.lora import deployed, has_experts
from core.model_sources import no_row, require_taught
from core.preflight import Find, describe_student, find_asleep, find_pretrained, load_student
from core.store import Store
from core.weights.files import file_sha256


@dataclass(frozen=True)
class Finder:
    """Finds models for a job.

    Attributes:
        store: Where other runs are.
        runs_folder: Where their adapters are.
        job_id: Whose rows are meant; None knows no rows.
        pretrained: Finds all that are no run's student; with `find_asleep` those sleep, too, but for mixtures.
    """

    store: Store
    runs_folder: Path
    job_id: str | None = None
    pretrained: Find = find_pretrained

    def __call__(self, model: str, revision: str | None, language: str) -> Whisper:
        """Return a model, on the CPU.

        Raises:
            ModelError: If there is none of that name, or its run has not finished.
            NotFoundError: If there is no run of that id.
        """
        if model.startswith(RUN):
            return self._student(model.removeprefix(RUN), language)
        if model.startswith(ROW):
            name = model.removeprefix(ROW)
            rows = {run.name: run.id for run in self.store.runs(job_id=self.job_id)} if self.job_id else {}
            if name not in rows:
                raise ModelError(no_row(name))
            return self._student(rows[name], language)
        return self.pretrained(model, revision, language)

    def _student(self, run_id: str, language: str) -> Whisper:
        run = self.store.run(run_id)
        adapters = require_taught(run, runs_folder=self.runs_folder)
        config = RunConfig.model_validate({**run.config, "language": language})

        def student() -> Whisper:
            found = load_student(config, Finder(self.store, self.runs_folder, run.job_id))
            revision = f"{found.revision} {folder_hash(adapters)}"
            return found.with_model(deployed(found.plain, adapters).eval(), revision)

        # Merged adapters change no shape and no head; experts stand beside the weights.
        if self.pretrained is not find_asleep or has_experts(adapters):
            return student()
        described = describe_student(config, replace(self, job_id=run.job_id))
        if not next(described.plain.parameters()).is_meta:
            return student()
        revision = f"{described.revision} {folder_hash(adapters)}"
        read = lambda: cast(WhisperForConditionalGeneration, student().plain)  # noqa: E731
        model = cast(WhisperForConditionalGeneration, described.plain)
        return Whisper(replace(described.loaded, model=model, read=read, revision=revision), language=language)


@dataclass(frozen=True)
class Rehearsal:
    """Finds models for a look at a job before it starts: a row stands in with its student as it is before training.

    Attributes:
        find: Finds all others.
        configs: The rows.
    """

    find: Finder | None
    configs: Sequence[RunConfig]

    def __call__(self, model: str, revision: str | None, language: str) -> Whisper:
        """Return a model of the right shape, on the CPU.

        Raises:
            ModelError: If there is none of that name.
        """
        if model.startswith(ROW):
            name = model.removeprefix(ROW)
            rows = {config.name: config for config in self.configs}
            if name not in rows:
                raise ModelError(no_row(name))
            return load_student(rows[name].model_copy(update={"language": language}), self)
        if self.find is not None:
            return self.find(model, revision, language)
        if model.startswith(RUN):
            raise ModelError(f"'{model}' is looked for in a database, and none was given.")
        return find_pretrained(model, revision, language)


def folder_hash(folder: Path) -> str:
    """Return a sha256 of what the files in a folder hold and what they are called."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(f"{path.name} {file_sha256(path)}\n".encode())
    return total.hexdigest()
