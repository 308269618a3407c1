"""What happens around a run's steps: metrics, probes, development WER, and which adapters are kept."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.alignment.records import alignment_records, signs_of_collapse
from core.checkpoints import Name, save_adapters
from core.config import RunConfig
from core.errors import StoreError
from core.evaluation import Student
from core.families.whisper import Whisper
from core.mapping import PointMap, PointMaps
from core.mixture import mixed_modules, recorded
from core.probes import ProbeSet, probe_steps, save_student
from core.recording import Recorder
from core.scaling.work import PROBE_POINTS
from core.store.database import identity
from core.store.records import RunRecord
from core.teacher_outputs import Prepared, student_signals
from core.training import valid_routings

log = logging.getLogger(__name__)


class RunWatcher:
    """Watches one run for `core.training.train`.

    Attributes:
        best_step: Step of the adapters that `best` names.
    """

    def __init__(
        self,
        run: RunRecord,
        config: RunConfig,
        *,
        student: Whisper,
        point_map: PointMap | PointMaps,
        development: Sequence[Prepared],
        probe: ProbeSet,
        recorder: Recorder,
        advance: Callable[[int], None],
    ) -> None:
        """Prepare to watch; nothing is measured yet.

        Args:
            run: Its row.
            config: Its settings.
            student: With adapters.
            point_map: The mapping that is trained with them.
            development: The set that chooses the checkpoint.
            probe: Whose states are stored, with the run's own layer pairs.
            recorder: Transcribes and stores.
            advance: Called after each step with its number of utterances; may raise to stop.
        """
        self._run, self._config = run, config
        self._student, self._point_map = student, point_map
        self._development, self._probe, self._recorder, self._advance = development, probe, recorder, advance
        self._folder = recorder.runs_folder / run.id
        steps = config.training.steps
        self._probe_steps = probe_steps(steps, PROBE_POINTS)
        self._evaluation_steps = evaluation_steps(steps, config.training.evaluations)
        self._lowest: float | None = None
        self.best_step: int | None = None
        self._seconds = 0.0
        self._folder_identity: tuple[int, int] | None = None

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Store a step's metrics and count its time; pauses are not training time."""
        self._seconds += seconds
        self._recorder.store.add_metrics(self._run.id, step, values)
        self._recorder.store.run_progress(self._run.id, step, self._seconds)
        self._advance(self._config.training.batch_size)

    def pause(self, step: int) -> None:
        """Probe, evaluate and save where it is time for it.

        Raises:
            StoreError: If the run's folder, with what was saved before, was deleted.
        """
        if self._folder_identity is not None and identity(self._folder) != self._folder_identity:
            raise StoreError(
                f"The folder of the run, {self._folder}, was deleted or moved while it trained, and with it what was "
                "saved. Start the run again."
            )
        if step in self._probe_steps:
            self._take_probe(step)
        if step in self._evaluation_steps:
            self._develop(step)
        self._student.model.train()
        self._folder_identity = self._folder_identity or identity(self._folder)

    def _develop(self, step: int) -> None:
        """Transcribe the development set; fewer errors, or as few later, make these adapters the best."""
        result = self._recorder.evaluate(
            self._development,
            listener=Student(self._student, self._config.freeze_below),
            subject="student",
            test_set="development",
            run_id=self._run.id,
            step=step,
        )
        wer = result.total.wer
        loads = expert_loads(self._config, self._development, student=self._student)
        metrics = {"development/wer": wer, **{f"load/expert_{place}": load for place, load in enumerate(loads)}}
        self._recorder.store.add_metrics(self._run.id, step, metrics)
        names: tuple[Name, ...] = ("last",)
        if self._lowest is None or wer <= self._lowest:
            self._lowest, self.best_step, names = wer, step, ("last", "best")
        save_adapters(
            self._folder / "adapters",
            model=self._student.model,
            point_map=self._point_map,
            step=step,
            names=names,
        )
        said = f"{self._run.name}, step {step} of {self._config.training.steps}: read the development set"
        log.info("%s, saved its adapters as %s", said, " and ".join(names))

    def _take_probe(self, step: int) -> None:
        states = self._probe.student_states(self._student, batch_size=self._config.evaluation.batch_size)
        aligned = self._probe.aligned(states, self._point_map)
        save_student(states, aligned if self._config.method.aligns else {}, self._folder / "states", step=step)
        signs = {
            f"{name}/{pair.side}.{pair.student}{f'.of{pair.of}' if pair.of else ''}": value
            for pair, (mine, theirs) in aligned.items()
            for name, value in signs_of_collapse(mine.cpu().numpy(), theirs.cpu().numpy()).items()
        }
        self._recorder.store.add_metrics(self._run.id, step, signs)
        stage = "before" if step == 0 else "after" if step == self._config.training.steps else "during"
        self._recorder.store.add_alignments(
            [
                alignment_records(
                    run_id=self._run.id,
                    step=step,
                    stage=stage,
                    side=pair.side,
                    student_layer=pair.student,
                    teacher_layer=pair.teacher,
                    teacher_number=pair.of,
                    student=states[pair.side, pair.student].float().cpu().numpy(),
                    teacher=self._probe.teacher_states(pair).float().cpu().numpy(),
                    aligned_student=aligned[pair][0].cpu().numpy(),
                    aligned_teacher=aligned[pair][1].cpu().numpy(),
                )
                for pair in self._probe.pairs
            ]
        )


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Return after which steps the development set is transcribed: evenly spread, the last among them."""
    return sorted({max(1, round(index * steps / evaluations)) for index in range(1, evaluations + 1)})


@torch.no_grad()
def expert_loads(config: RunConfig, prepared: Sequence[Prepared], *, student: Whisper) -> list[float]:
    """Return the share of all points that each expert has, the busiest of each module first; nothing without experts.

    Experts of different modules have nothing to do with each other, so those of each module are put in order before the
    mean over the modules is taken: otherwise routers that each send everything to another expert would look even.

    Args:
        config: The run.
        prepared: Utterances that were read at the training context; padding and prompts do not count.
        student: In evaluation mode; it reads the references.
    """
    modules = mixed_modules(student.model)
    if not modules or not prepared:
        return []
    size = config.evaluation.batch_size
    totals: dict[str, Tensor] = {}
    for first in range(0, len(prepared), size):
        batch = prepared[first : first + size]
        with recorded(student.model) as routings:
            student_signals(
                batch,
                student,
                freeze_below=config.freeze_below,
                with_decoder=any(".decoder." in path for path in modules),
            )
        for path, routing in valid_routings(routings, batch, student=student).items():
            totals[path] = totals.get(path, 0) + routing.dispatch.double().sum(dim=0)
    shares = torch.stack([(total / total.sum()).sort(descending=True).values for total in totals.values()])
    return shares.mean(dim=0).tolist()
