"""Transcribing a set and storing what came out: counts, texts, and what makes it comparable."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.audio import stored_path
from core.config import RunConfig
from core.evaluation import Listener, Transcription, decoding_description, normaliser_for, transcribe_set
from core.families.whisper import Whisper
from core.memory import weight_bytes
from core.store.records import Subject, UtteranceResult
from core.store.store import Store
from core.teacher_outputs import Prepared, Teachers


@dataclass(frozen=True)
class Recorder:
    """Evaluates models for one job.

    Attributes:
        job_id: Of the job.
        store: Where results go.
        runs_folder: Audio inside it is stored by relative path.
        config: Decides decoding and contexts; the runs of a job agree in both.
        advance: Called with the number of utterances done since the last call; may raise to stop.
        group: Which group of the job's runs.
    """

    job_id: str
    store: Store
    runs_folder: Path
    config: RunConfig
    advance: Callable[[int], None]
    group: int = 0

    def evaluate(
        self,
        prepared: Sequence[Prepared],
        *,
        listener: Listener,
        subject: Subject,
        test_set: str,
        label: str = "",
        teachers: Teachers | None = None,
        run_id: str | None = None,
        step: int | None = None,
    ) -> Transcription:
        """Transcribe a set with a model and store counts and texts.

        Args:
            prepared: The set, at the context that belongs to `test_set`.
            listener: What transcribes it.
            subject: Of which kind it is.
            test_set: "development" is read at the training context, all others at the evaluation context.
            label: Which teacher, or which ensemble.
            teachers: Add a student's held-out divergence from them.
            run_id: The run, for a trained student.
            step: Step of the student's adapters.
        """
        began = time.perf_counter()
        result = transcribe_set(
            prepared,
            listener=listener,
            settings=self.config.evaluation,
            teachers=teachers,
            audio_context=self.context(test_set),
            advance=self.advance,
        )
        self.record(
            prepared,
            result,
            models=listener.models,
            subject=subject,
            test_set=test_set,
            label=label,
            run_id=run_id,
            step=step,
            seconds=time.perf_counter() - began,
        )
        return result

    def context(self, test_set: str) -> float:
        """Return the audio context at which a set is read, in seconds."""
        chosen = self.config.training if test_set == "development" else self.config.evaluation
        return chosen.audio_context

    def record(
        self,
        prepared: Sequence[Prepared],
        result: Transcription,
        *,
        models: Sequence[Whisper],
        subject: Subject,
        test_set: str,
        label: str = "",
        run_id: str | None = None,
        step: int | None = None,
        seconds: float,
    ) -> None:
        """Store counts and texts of a set that was transcribed; see `evaluate`.

        Args:
            prepared: The set.
            result: What came out.
            models: All that transcribed it.
            subject: Of which kind they are.
            test_set: Its name.
            label: Which teacher, or which ensemble.
            run_id: The run, for a trained student.
            step: Step of the student's adapters.
            seconds: That the evaluation took.
        """
        config, total = self.config, result.total
        alone = models[0] if len(models) == 1 else None
        self.store.add_evaluation(
            job_id=self.job_id,
            run_id=run_id,
            subject=subject,
            test_set=test_set,
            test_set_hash=_set_hash(prepared),
            step=step,
            audio_context=self.context(test_set),
            normaliser=normaliser_for(config).name,
            decoding=decoding_description(config.evaluation),
            wer=total.wer,
            cer=total.cer,
            substitutions=total.substitutions,
            deletions=total.deletions,
            insertions=total.insertions,
            words=total.words,
            heldout_kl=result.heldout_kl,
            heldout_kl_tokens=result.heldout_kl_tokens,
            real_time_factor=result.seconds / sum(item.utterance.duration for item in prepared),
            seconds=seconds,
            label=label,
            group=self.group,
            memory=sum(weight_bytes(model.model) for model in models),
            encoder_layers=alone and alone.encoder_layers,
            decoder_layers=alone and alone.decoder_layers,
            results=[
                UtteranceResult(
                    utterance_id=item.utterance.id,
                    position=position,
                    reference=item.utterance.text,
                    hypothesis=hypothesis,
                    substitutions=errors.substitutions,
                    deletions=errors.deletions,
                    insertions=errors.insertions,
                    words=errors.words,
                    speaker=item.utterance.speaker,
                    duration=item.utterance.duration,
                    audio_path=stored_path(item.utterance.audio_path, self.runs_folder),
                )
                for position, (item, hypothesis, errors) in enumerate(
                    zip(prepared, result.hypotheses, result.errors, strict=True)
                )
            ],
        )


def _set_hash(prepared: Sequence[Prepared]) -> str:
    """Return a hash of what a test set holds: its audio, by content, and its texts."""
    digest = hashlib.sha256()
    for item in prepared:
        digest.update(hashlib.sha256(item.utterance.audio_path.read_bytes()).digest())
        digest.update(item.utterance.text.encode() + b"\0")
    return digest.hexdigest()
