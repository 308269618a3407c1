"""Jobs that keep what their teachers say: a later one reads it, runs no teacher, and computes the same."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cache import Cache
from core.config import PrunedStudent, RunConfig, parse_run
from core.errors import ModelError, Stopped
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.job import run_job
from core.listening import live
from core.mapping import PointMap
from core.objective import Objective
from core.preflight import all_pairs, load_models, point_map_of
from core.shared import listening_of
from core.sources import prepare
from core.store import Store
from core.sums import means
from core.teacher_outputs import Prepared, Teachers, teacher_statistics
from core.training import method_terms
from core.weights import load
from tests.engine import tiny_en

SMALL: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8},
    # The same on every machine; what is kept is heard in float32 whatever a run is trained in.
    "training": {
        "steps": 2,
        "batch_size": 2,
        "audio_context": 6,
        "evaluations": 1,
        "learning_rate": 0.003,
        "precision": "float32",
    },
    "evaluation": {"audio_context": 8},
    "source": {"kind": "generated", "train": 4, "development": 2, "test": 2},
}
SOFT = {"losses": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}, {"kind": "geodesic", "weight": 8}]}
WHOLE = {"losses": [{"kind": "dkd"}, {"kind": "geodesic", "decoder": False}]}
PSEUDO = {"losses": [{"kind": "cross_entropy"}], "transcripts": "teacher", "largest_wer": 2}


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs whose speech is made once; its cache is thrown away after each test."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def runs(folder: Path) -> Iterator[Path]:
    yield folder / "runs"
    shutil.rmtree(folder / "runs" / "cache", ignore_errors=True)


@pytest.fixture(scope="module")
def student(folder: Path) -> Path:
    """The first, second and last encoder layer of tiny.en, saved as a model of its own."""
    cut = prune(Whisper(tiny_en(), language="en"), PrunedStudent(encoder_layers=(0, 1, 3)))
    target = folder / "student"
    cut.plain.save_pretrained(target)
    cut.loaded.tokenizer.save_pretrained(target)
    return target


def config(how: str, method: dict[str, Any], student: Path | None = None, **changes: Any) -> RunConfig:
    """Return a run; the student is cut from the teacher, or is the model in a folder."""
    fields: dict[str, Any] = {**SMALL, "training": {**SMALL["training"], "teacher_outputs": how}, "method": method}
    if student is not None:
        fields["student"] = {"kind": "pretrained", "model": str(student)}
    return parse_run({**fields, **changes})


def finished(store: Store, runs: Path, *configs: RunConfig) -> str:
    job = store.create_job("kept", list(configs))
    run_job(job.id, store=store, runs_folder=runs, stop=never)
    return job.id


def said(store: Store, job_id: str) -> list[Any]:
    """Return all that a job found out, without its times and the state of the cache before it."""
    metrics = [
        (run.position, metric.name, metric.step, metric.value)
        for run in store.runs(job_id=job_id)
        for metric in store.metrics(run.id)
        if metric.name not in ("cache/found", "cache/bytes_before")
    ]
    evaluations = store.evaluations(job_id=job_id)
    rates = [
        (item.subject, item.test_set, item.label, item.wer, item.cer, item.heldout_kl, item.memory)
        for item in evaluations
    ]
    texts = [[each.hypothesis for each in store.utterance_results(item.id)] for item in evaluations]
    # A teacher's recognition is not timed again: what it took is kept with its texts.
    pace = [item.real_time_factor for item in evaluations if item.subject == "teacher"]
    return [metrics, rates, texts, pace]


def refuse_teachers(monkeypatch: pytest.MonkeyPatch, *, but: Path) -> list[str]:
    """Let nobody read the weights of a model but one; return where those come from whose head is read alone."""
    build, describe, heads = load._build, load.describe_files, list[str]()

    def refuse(parts: Any, files: Any) -> Any:
        if files.folder != but.resolve():
            raise ModelError(f"the weights in {files.folder} were read")
        return build(parts, files)

    def watched(files: Any) -> Any:
        found = describe(files)

        def read_head() -> torch.Tensor:
            heads.append(files.origin)
            return found.read_head()

        return dataclasses.replace(found, read_head=read_head)

    monkeypatch.setattr(load, "_build", refuse)
    monkeypatch.setattr(load, "describe_files", watched)
    return heads


@pytest.mark.parametrize(
    ("how", "method", "heads"),
    [
        pytest.param("cached", SOFT, 1, id="states"),
        pytest.param("cached", WHOLE, 1, id="other-logit-losses", marks=pytest.mark.long),
        pytest.param("compact", SOFT, 0, id="top-tokens"),
        pytest.param("compact", PSEUDO, 0, id="pseudo-labels", marks=pytest.mark.long),
    ],
)
def test_a_second_job_runs_no_teacher_and_finds_out_the_same_bit_for_bit(
    store: Store, runs: Path, student: Path, monkeypatch: pytest.MonkeyPatch, how: str, method: dict, heads: int
) -> None:
    training = {**SMALL["training"], "teacher_outputs": how, "length_buckets": 12}
    first = finished(store, runs, config(how, method, student, training=training))
    read = refuse_teachers(monkeypatch, but=student)
    second = finished(store, runs, config(how, method, student, training=training, name="again"))
    assert said(store, second) == said(store, first)
    # Whole logits are made again from the kept states: of the teacher's weights the head alone is read.
    assert len(read) == heads
    (run,) = store.runs(job_id=second)
    told = {metric.name: metric.value for metric in store.metrics(run.id) if metric.name.startswith("cache/")}
    assert told["cache/found"] == told["cache/utterances"] > 0
    assert told["cache/bytes_before"] == told["cache/bytes_after"] > 0


def test_a_miss_would_read_the_teacher(
    store: Store, runs: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_teachers(monkeypatch, but=student)
    with pytest.raises(ModelError, match=r"weights .* were read"):
        finished(store, runs, config("cached", SOFT, student))


def test_a_student_that_is_cut_from_the_teacher_needs_its_file_and_lets_the_rest_go(
    store: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = finished(store, runs, config("cached", SOFT))
    built: list[str] = []
    build = load._build

    def counted(parts: Any, files: Any) -> Any:
        built.append(files.origin)
        return build(parts, files)

    monkeypatch.setattr(load, "_build", counted)
    woken: list[Whisper] = []
    monkeypatch.setattr(Whisper, "wake", lambda self: woken.append(self) or self)
    second = finished(store, runs, config("cached", SOFT))
    assert said(store, second) == said(store, first)
    # Once for the student that is cut from it, once for the scan of the layers that could have gone.
    assert len(built) == 2
    assert woken == []


@pytest.mark.parametrize("how", ["cached", pytest.param("compact", marks=pytest.mark.long)])
def test_students_that_are_trained_side_by_side_read_the_same_as_those_that_hear_a_teacher(
    store: Store, runs: Path, how: str
) -> None:
    decoder: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "encoder_targets": [], "decoder_targets": ["q_proj"]}}
    methods = {
        "soft": {"losses": [{"kind": "soft_labels", "temperature": 1}]},
        "softer": {"losses": [{"kind": "soft_labels"}, {"kind": "cross_entropy"}]},
    }
    company = [config(how, method, name=name, **decoder) for name, method in methods.items()]
    together = finished(store, runs, *company)
    for run in store.runs(job_id=together):
        alone = finished(store, runs, company[run.position])
        (other,) = store.runs(job_id=alone)
        for metric in store.metrics(run.id, ["loss/total"]):
            (same,) = [each for each in store.metrics(other.id, ["loss/total"]) if each.step == metric.step]
            # Their order of summing differs, as it does with a teacher that is run.
            assert metric.value == pytest.approx(same.value, rel=1e-4)


def test_a_job_that_is_stopped_goes_on_where_it_was(store: Store, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.listening.kept.AT_ONCE", 2)
    whole = config("cached", SOFT, source={**SMALL["source"], "train": 7})
    prepare(whole.source, runs / "data", lambda done, total: None)
    heard: list[int] = []
    run = live.prepare_utterances

    def counted(utterances: Any, **fields: Any) -> list[Prepared]:
        if len(heard) == 2:
            raise Stopped("Stopped by the user.")
        heard.append(len(utterances))
        return run(utterances, **fields)

    monkeypatch.setattr("core.listening.live.prepare_utterances", counted)
    job = store.create_job("stopped", [whole])
    with pytest.raises(Stopped):
        run_job(job.id, store=store, runs_folder=runs, stop=never)
    again: list[int] = []

    def every(utterances: Any, **fields: Any) -> list[Prepared]:
        again.append(len(utterances))
        return run(utterances, **fields)

    monkeypatch.setattr("core.listening.live.prepare_utterances", every)
    finished(store, runs, whole)
    # Two times two utterances were published; of seven for training three are left, then development and test.
    assert heard == [2, 2]
    assert again == [2, 1, 2, 2]


def test_what_was_damaged_is_made_again_and_teaches_the_same(store: Store, runs: Path) -> None:
    first = finished(store, runs, config("compact", SOFT))
    shards = sorted((runs / "cache").glob("*/*.safetensors"))
    assert len(shards) > 10
    for shard in shards:
        content = bytearray(shard.read_bytes())
        content[-3] ^= 1
        shard.write_bytes(content)
    second = finished(store, runs, config("compact", SOFT))
    assert not set(shards) & set((runs / "cache").glob("*/*.safetensors"))
    # All but the teacher's pace, which was measured anew.
    assert said(store, second)[:3] == said(store, first)[:3]
    # What is told of a divergence: that it is not of all tokens.
    measured = [item for item in store.evaluations(job_id=second) if item.heldout_kl is not None]
    assert measured
    assert {item.heldout_kl_tokens for item in measured} <= {8, 16, 32}


@pytest.mark.long
def test_several_teachers_are_kept_one_by_one(store: Store, runs: Path, student: Path) -> None:
    teachers = [{"model": "openai/whisper-tiny.en"}, {"model": str(student)}]
    ensemble = {"combine": "weighted", "temperature": 5, "states": "per_teacher"}
    method = {"losses": [{"kind": "soft_labels"}, {"kind": "geodesic"}]}
    both = config("cached", method, student, teachers=teachers, ensemble=ensemble)
    first = finished(store, runs, both)
    second = finished(store, runs, both)
    assert said(store, second) == said(store, first)
    live = finished(store, runs, config("live", method, student, teachers=teachers, ensemble=ensemble))
    rates = [[item.wer for item in store.evaluations(job_id=job) if item.subject != "student"] for job in (first, live)]
    assert rates[0] == rates[1]
    # A job with one of them finds what was kept of it.
    alone = finished(store, runs, config("cached", method, student))
    (run,) = store.runs(job_id=alone)
    told = {metric.name: metric.value for metric in store.metrics(run.id)}
    assert told["cache/found"] == told["cache/utterances"]


def first_step(run: RunConfig, runs: Path) -> dict[str, float]:
    """Return the terms of a first step on four utterances."""
    teachers, student = load_models(run)
    pairs = all_pairs([run], student=student, teachers=teachers)
    listening = listening_of([run], student=student, teachers=teachers, pairs=pairs, folder=runs)
    speech = prepare(run.source, runs / "data", lambda done, total: None).train
    context = run.training.audio_context
    prepared = listening.listen(speech, context, to_transcribe=False, advance=lambda count: None)
    point_map = point_map_of(run, student=student, teachers=teachers, statistics=teacher_statistics(prepared))
    assert isinstance(point_map, PointMap)
    objective = Objective(run.method, point_map=point_map, pairs=pairs)
    with torch.no_grad():
        terms = method_terms(run, prepared, objective, student=student, teachers=Teachers(teachers), progress=1.0)
    return {kind: float(value) for kind, value in means(terms).items()}


ALL = [
    *({"kind": kind} for kind in ("cross_entropy", "soft_labels", "dkd", "standardised_logits", "spherical_logits")),
    *({"kind": kind} for kind in ("taid", "fisher_rao", "geodesic", "cosine", "mse", "infonce", "curve", "rkd")),
]


def test_a_first_step_with_kept_states_is_within_half_a_percent_of_a_live_one(runs: Path) -> None:
    live, cached = (first_step(config(how, {"losses": ALL}), runs) for how in ("live", "cached"))
    assert set(live) == {loss["kind"] for loss in ALL}
    assert cached == pytest.approx(live, rel=5e-3)
    assert cached != live


def test_a_first_step_with_top_tokens_falls_short_by_what_they_do_not_hold(store: Store, runs: Path) -> None:
    method = {"losses": [{"kind": "soft_labels", "temperature": 1}]}
    live, cached, compact = (
        first_step(config(how, method), runs)["soft_labels"] for how in ("live", "cached", "compact")
    )
    held = measured_mass(store, runs, method)
    assert 0.95 < held < 0.999
    assert cached == pytest.approx(live, rel=5e-3)
    # A divergence of merged classes is smaller, and by no more than about the share of the probability that is merged.
    assert (1 - 2 * (1 - held)) * cached < compact < cached


def measured_mass(store: Store, runs: Path, method: dict[str, Any]) -> float:
    job = finished(store, runs, config("compact", method))
    (run,) = store.runs(job_id=job)
    return next(metric.value for metric in store.metrics(run.id) if metric.name == "cache/top_mass/1")


@pytest.mark.long
def test_a_second_of_speech_takes_half_a_kibibyte_of_top_tokens(store: Store, runs: Path) -> None:
    finished(store, runs, config("compact", SOFT, source={**SMALL["source"], "train": 64}))
    records = [record for record in Cache(runs / "cache").records() if record.recipe.content == "top tokens"]
    (largest,) = [record for record in records if record.recipe.settings["audio_context"] == 6]
    assert largest.entries == 66
    assert largest.recipe.settings["tokens"] == 32
    assert largest.size / largest.audio_seconds <= 512
