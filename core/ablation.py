"""The ablation table: what the page, the terminal and the JSON show, made in one place so that they agree."""

from dataclasses import dataclass, field

from core.comparison import measured_differently
from core.errors import ConfigError, NotFoundError
from core.significance import Difference, holm, paired_bootstrap
from core.store import EvaluationRecord, JobRecord, ParameterCounts, RunRecord, Store

DEVELOPMENT = "development"
"""Name of the set that chooses checkpoints and settings."""


@dataclass(frozen=True)
class AblationRow:
    """One run beside the baseline.

    Attributes:
        evaluation: The run on the table's test set, or None before it was read.
        parameters: None before they are known.
        difference: WER minus the baseline's, a fraction; negative is better. None for the baseline itself.
        interval: 95 % interval of the difference.
        p_value: Adjusted for the number of rows (Holm); None where there are too few utterances to test.
        load: Of a mixture, the share of the development set's points that each expert has, at the checkpoint that is
            shown; the busiest first, as each module's are put in order. Empty without experts.
    """

    run: RunRecord
    evaluation: EvaluationRecord | None = None
    parameters: ParameterCounts | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    load: tuple[float, ...] = ()

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance at the 5 % level, all rows considered."""
        return self.p_value is not None and self.p_value < 0.05


@dataclass(frozen=True)
class AblationTable:
    """The runs of a job on one test set.

    Attributes:
        baseline: Name of the run that the others are compared with.
        test: What the interval is and whether it is a test, a sentence; empty when nothing is compared yet.
        utterances: Size of the test set.
        extra: The same table for every extra test set, by its name; never pooled.
    """

    job: JobRecord
    test_set: str
    teacher: EvaluationRecord | None
    student_before: EvaluationRecord | None
    rows: tuple[AblationRow, ...]
    baseline: str
    test: str
    utterances: int
    extra: dict[str, "AblationTable"] = field(default_factory=dict)

    @property
    def reading(self) -> str:
        """How often the set was read, for the line under the table."""
        if self.test_set == DEVELOPMENT:
            return "it chose each run's checkpoint, so its rates flatter"
        return "read once"


def ablation_table(store: Store, job_id: str, test_set: str | None = None) -> AblationTable:
    """Compare the runs of a job; rows whose test set was not read yet are left open.

    Args:
        store: Where the job is.
        job_id: The job.
        test_set: Where they are compared; by default "test", or "development" for a job that leaves its test unread.
            On the development set, which chooses it, a run's row is its best checkpoint.

    Raises:
        NotFoundError: If there is no such job.
        ConfigError: If the evaluations were not made alike, naming what differs.
    """
    if test_set is None:
        test_set = "test" if all(run.config["evaluation"]["test"] for run in store.runs(job_id=job_id)) else DEVELOPMENT
    table = _table(store, job_id, test_set)
    if test_set != "test":
        return table
    names = dict.fromkeys(record.test_set for record in store.evaluations(job_id=job_id))
    extra = {name: _table(store, job_id, name) for name in names if name not in ("test", DEVELOPMENT)}
    return AblationTable(**{**vars(table), "extra": extra})


def _table(store: Store, job_id: str, test_set: str) -> AblationTable:
    job = store.job(job_id)
    runs = store.runs(job_id=job_id)
    if not runs:
        raise NotFoundError(f"The job '{job_id}' has no runs.")
    records = store.evaluations(job_id=job_id, test_set=test_set)
    if test_set == DEVELOPMENT:
        # Read at several steps; the kept checkpoint has the fewest errors, the later one of two alike.
        records.sort(key=lambda record: (-record.wer, record.step or 0))
    found = {(record.subject, record.run_id): record for record in records}
    _require_alike(list(found.values()), runs)
    evaluations = [found.get(("student", run.id)) for run in runs]
    utterances = len(store.utterance_results(next(iter(found.values())).id)) if found else 0
    differences, test = _compare(store, evaluations, utterances)
    p_values = holm([None if difference is None else difference.p_value for difference in differences])
    rows = tuple(
        AblationRow(
            run=run,
            evaluation=evaluation,
            parameters=store.parameters(run.id),
            difference=None if difference is None else difference.difference,
            interval=None if difference is None else (difference.low, difference.high),
            p_value=p_value,
            load=_load(store, run, evaluation),
        )
        for run, evaluation, difference, p_value in zip(runs, evaluations, differences, p_values, strict=True)
    )
    return AblationTable(
        job=job,
        test_set=test_set,
        teacher=found.get(("teacher", None)),
        student_before=found.get(("student_before", None)),
        rows=rows,
        baseline=runs[0].name,
        test=test,
        utterances=utterances,
    )


def _compare(
    store: Store, evaluations: list[EvaluationRecord | None], size: int
) -> tuple[list[Difference | None], str]:
    """Compare each evaluation with the first; return the differences and what their interval is."""
    results = [None if record is None else store.utterance_results(record.id) for record in evaluations]
    nothing: list[Difference | None] = [None] * len(evaluations)
    # An utterance whose reference is empty has no share in a rate of words.
    baseline = {result.utterance_id: result for result in results[0] or () if result.words > 0}
    if not baseline:
        return nothing, ""
    differences = list(nothing)
    for index, own in enumerate(results[1:], start=1):
        if own is not None:
            errors = {result.utterance_id: result.errors for result in own}
            differences[index] = paired_bootstrap(
                [errors[utterance_id] for utterance_id in baseline],
                [result.errors for result in baseline.values()],
                [result.words for result in baseline.values()],
                clusters=[result.speaker for result in baseline.values()],
            )
    known = [difference for difference in differences if difference is not None]
    if not known:
        return nothing, ""
    sentence = (
        f"95 % interval of the difference from the baseline: paired bootstrap over {known[0].units} {known[0].unit}"
    )
    tested = sum(difference.p_value is not None for difference in known)
    if not tested:
        return differences, f"{sentence}. {size} utterances are too few to test."
    return differences, f"{sentence}. p-values are adjusted for {tested} comparisons (Holm)."


def _load(store: Store, run: RunRecord, evaluation: EvaluationRecord | None) -> tuple[float, ...]:
    mixture = run.config["lora"].get("mixture")
    if mixture is None or evaluation is None:
        return ()
    # Ten experts or more are not in order by their names.
    names = [f"load/expert_{place}" for place in range(mixture["experts"])]
    found = {item.name: item.value for item in store.metrics(run.id, names) if item.step == evaluation.step}
    return tuple(found[name] for name in names if name in found)


def _require_alike(records: list[EvaluationRecord], runs: list[RunRecord]) -> None:
    names: dict[str | None, str] = {run.id: run.name for run in runs}
    who = [names.get(record.run_id) or record.subject.replace("_", " ") for record in records]
    problems = measured_differently(list(zip(who, records, strict=True)))
    if problems:
        raise ConfigError("These evaluations cannot be compared. Run them again with the same settings:", problems)
