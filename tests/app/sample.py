"""A database such as real jobs leave behind: rows through the store's own writes, files in the formats of the engine.

The numbers are made up; what is drawn depends on a seed alone.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import soundfile
from safetensors.numpy import save_file

from core.config import RunConfig, parse_run, read_preset
from core.launchers.process import identify
from core.runs import AlignmentRecord, Estimate, JobRecord, ParameterCounts, RunRecord, UtteranceResult
from core.store import Store
from core.store.records import LayerDistance, LayerScan, Level, Side, State, teacher_states

SENTENCES = (
    "the harbour master counts the boats before the fog comes in",
    "a kettle on a camp stove sings louder than the river",
    "she keeps the old maps in a drawer under the window",
    "twelve swallows sat on the wire and left at noon",
    "the baker closes early when the bread is gone",
    "nobody remembers who planted the walnut tree",
    "his letters arrive on thursdays or not at all",
    "we crossed the bridge on foot because the tram had stopped",
)
UTTERANCES = 24
STEPS = 160
PROBED = (0, 20, 40, 80, 120, 160)
ESTIMATE = Estimate(
    device="CPU",
    steps=5,
    step_seconds=0.5,
    training_seconds=80.0,
    run_seconds=120.0,
    shared_seconds=30.0,
    transcribe_seconds=0.4,
    peak_memory=1_900_000_000,
    listening_memory=1_500_000_000,
    memory_free=6_000_000_000,
    audio_bytes=8_000_000,
    teacher_state_bytes=2_000_000,
    adapter_bytes=3_000_000,
    state_bytes=4_000_000,
    disk_free=50_000_000_000,
    busy=False,
)
ADAPTED = [
    f"model.encoder.layers.2.{name}"
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2")
]
STAGED = {
    "name": "manifold-staged",
    "losses": [
        {"kind": "cross_entropy", "begins": 0.5},
        {"kind": "cka"},
        {"kind": "geodesic", "weight": 20},
        {"kind": "infonce", "ends": 0.75},
    ],
}
WORD_ERROR_RATES = (0.62, 0.55, 0.21, 0.18)
"""Of the four runs of the quick start, as the sample pretends."""

SEEDS = {("ce", 0): 0.5, ("ce", 1): 0.7, ("kd", 0): 0.3, ("kd", 1): 0.6}
"""Word error rates by method and seed, as the sample pretends."""

THIRD = {("ce", 3): 0.6, ("kd", 3): 0.4}


def rows(preset: str) -> list[RunConfig]:
    """Return the runs of a preset, of as many steps as the sample pretends."""
    _, configs = read_preset(preset)
    return [
        config.model_copy(update={"training": config.training.model_copy(update={"steps": STEPS})})
        for config in configs
    ]


def quick_start() -> list[RunConfig]:
    """Return the runs of the quick start, with as many steps as the sample has."""
    fields = [config.model_dump(mode="json") for config in read_preset("quickstart")[1]]
    return [parse_run({**each, "training": {**each["training"], "steps": STEPS}}) for each in fields]


def add_finished_job(
    store: Store, runs_folder: Path, *, called: str = "quickstart", names: Sequence[str] = ()
) -> list[RunRecord]:
    """Store a finished quick start with everything that its pages show, and return its runs.

    Args:
        store: Where.
        runs_folder: Where its files are.
        called: Name of the job.
        names: Of its four runs; what the quick start calls them, if not given.
    """
    configs = rows("quickstart")
    if names:
        configs = [config.model_copy(update={"name": name}) for config, name in zip(configs, names, strict=True)]
    job = store.create_job(called, configs)
    write_log(runs_folder, job.id, ["Training LoRA + CE", "Finished"])
    utterances = [f"test-{number:03d}" for number in range(UTTERANCES)]
    write_audio(runs_folder / "data" / "sample", utterances)
    write_probe(runs_folder, job.id, utterances)
    for test_set in ("development", "test", "real"):
        evaluate(store, job.id, None, "teacher", test_set, None, 0.09, utterances)
    evaluate(store, job.id, None, "student_before", "test", None, 1.0, utterances)
    store.add_layer_scan(job.id, 0, scan())
    store.job_state(job.id, "running")
    for run, rate in zip(store.runs(job_id=job.id), WORD_ERROR_RATES, strict=True):
        store.run_state(run.id, "running")
        add_curves(store, run, STEPS)
        store.set_parameters(run.id, counts(projections=147_456 if run.position > 1 else 0))
        store.set_estimate(run.id, ESTIMATE)
        store.set_precision(run.id, "float32")
        store.set_peak_memory(run.id, 2_090_000_000)
        for step in (80, 160):
            evaluate(store, job.id, run.id, "student", "development", step, rate * (1 + 40 / step), utterances)
        for test_set in ("test", "real"):
            evaluate(store, job.id, run.id, "student", test_set, STEPS, rate, utterances)
        store.add_alignments(alignments(run))
        store.run_progress(run.id, STEPS, 88.0 + run.position)
        store.run_state(run.id, "finished")
        for level in get_args(Level):
            for step in (None, 0, 160):
                add_map(store, runs_folder, run, step, level)
        add_comparison(store, run, STEPS)
    store.progress(job.id, "Finished", 1000, 1000, 0.0)
    store.job_state(job.id, "finished")
    return store.runs(job_id=job.id)


def scan(side: Side = "encoder", alone: Sequence[float] = (0.31, 0.17, 0.21, 0.27)) -> LayerScan:
    """Return a scan of one side with these distances of single layers; those of blocks are made up from them."""
    distances = [
        LayerDistance(side, first, last, min(0.5, sum(alone[first : last + 1]) * 0.8 ** (last - first)), 0.002)
        for first in range(len(alone))
        for last in range(first, len(alone))
    ]
    return LayerScan("openai/whisper-tiny.en", 15.0, 24, 71.5, 2.5, tuple(distances))


def add_read_run(
    store: Store, name: str, rate: float, *, before: float = 1.0, heard: Sequence[str] = (), steps: int = STEPS
) -> RunRecord:
    """Store a finished job of one run that was read on the test set, and return the run.

    Args:
        store: Where.
        name: Of run and job.
        rate: Its word error rate, about.
        before: That of its student before training.
        heard: What the test set consists of; what the finished quick start has, if not given.
        steps: Of the run.
    """
    fields = rows("quickstart")[3].model_dump(mode="json")
    training = {**fields["training"], "steps": steps}
    job = store.create_job(name, [parse_run({**fields, "name": name, "training": training})])
    (run,) = store.runs(job_id=job.id)
    utterances = heard or [f"test-{number:03d}" for number in range(UTTERANCES)]
    evaluate(store, job.id, None, "student_before", "test", None, before, utterances, hashed="|".join(heard))
    evaluate(store, job.id, run.id, "student", "test", STEPS, rate, utterances, hashed="|".join(heard))
    store.job_state(job.id, "running")
    store.run_state(run.id, "running")
    store.run_state(run.id, "finished")
    store.job_state(job.id, "finished")
    return store.run(run.id)


def add_tuning_job(store: Store, runs_folder: Path) -> list[RunRecord]:
    """Store a finished job of three runs that leaves its test set unread, and return its runs."""
    configs = rows("quickstart-tuning")
    job = store.create_job("quickstart-tuning", configs[:3])
    write_log(runs_folder, job.id, ["Finished"])
    utterances = [f"development-{number:03d}" for number in range(UTTERANCES)]
    for subject, rate in (("teacher", 0.09), ("student_before", 1.0)):
        evaluate(store, job.id, None, subject, "development", None, rate, utterances)
    store.job_state(job.id, "running")
    for run, rates in zip(store.runs(job_id=job.id), ((0.5, 0.3), (0.2, 0.4), (0.6, 0.5)), strict=True):
        store.run_state(run.id, "running")
        for step, rate in zip((80, 160), rates, strict=True):
            evaluate(store, job.id, run.id, "student", "development", step, rate, utterances)
        store.run_progress(run.id, STEPS, 88.0)
        store.run_state(run.id, "finished")
    store.job_state(job.id, "finished")
    return store.runs(job_id=job.id)


def add_ensemble_job(store: Store, runs_folder: Path) -> list[RunRecord]:
    """Store a finished job of experts, of students that learn from all of them, and of what these are, together."""
    job = store.create_job("ensemble", rows("ensemble"))
    utterances = [f"test-{number:03d}" for number in range(UTTERANCES)]
    write_audio(runs_folder / "data" / "sample", utterances)
    found = store.runs(job_id=job.id)
    last = found[-1].group
    store.job_state(job.id, "running")
    for run in found:
        store.run_state(run.id, "running")
        store.set_parameters(run.id, counts())
        if run.group == last:
            evaluate(store, job.id, run.id, "student", "test", STEPS, 0.3 + run.position / 50, utterances, group=last)
        else:
            evaluate(store, job.id, None, "teacher", "test", None, 0.2, utterances, group=last, label=run.name)
        store.run_state(run.id, "finished")
    evaluate(store, job.id, None, "ensemble", "test", None, 0.15, utterances, group=last, label="mean")
    write_log(runs_folder, job.id, ["Finished"])
    (runs_folder / found[-1].probe_folder).mkdir()
    write_probe(runs_folder, found[-1].probe_folder.removeprefix("jobs/"), utterances)
    add_map(store, runs_folder, found[-1], STEPS, "points")
    store.job_state(job.id, "finished")
    return store.runs(job_id=job.id)


def add_seeds(store: Store, *, utterances: int = UTTERANCES, third: bool = False) -> JobRecord:
    """Store a job of two kinds of runs with the seeds 0 and 1 each, or 3, too, and a run that was not read yet."""
    read = {**SEEDS, **THIRD} if third else SEEDS
    base = rows("quickstart")[0].model_dump(mode="json")
    losses = {"ce": [{"kind": "cross_entropy"}], "kd": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}]}
    configs = [
        parse_run(
            {**base, "name": f"{key} (seed {seed})", "seed": seed, "method": {"name": key, "losses": losses[key]}}
        )
        for key, seed in [*read, ("ce", 2)]
    ]
    job = store.create_job("seeds", configs)
    for run, rate in zip(store.runs(job_id=job.id), read.values(), strict=False):
        store.run_progress(run.id, STEPS, 60.0 * (1 + run.position))
        store.set_parameters(run.id, counts(projections=100 if run.method == "kd" else 0))
        evaluate(store, job.id, run.id, "student", "test", STEPS, rate, [f"u{n}" for n in range(utterances)])
    return job


def add_job(store: Store, runs_folder: Path, state: State, message: str = "") -> list[RunRecord]:
    """Store a job of one run that is, or ended, in a state, and return its runs."""
    configs = rows("quickstart")
    job = store.create_job(f"a job that is {state}", configs[3:4])
    (run,) = store.runs(job_id=job.id)
    write_log(runs_folder, job.id, ["Reading the models", "Training + manifold", message])
    if state == "queued":
        return [run]
    # The tests' own process stands for the worker, so that whoever asks finds it alive.
    worker = identify(os.getpid())
    assert worker is not None
    store.job_started(job.id, worker.pid, worker.boot_id, worker.started)
    store.job_state(job.id, "running")
    store.run_state(run.id, "running")
    store.progress(job.id, "Training + manifold", 420, 1000, 93.0)
    add_curves(store, run, 60)
    store.run_progress(run.id, 60, 31.5)
    if state != "running":
        store.job_state(job.id, state, message)
        store.run_state(run.id, state, message)
    return store.runs(job_id=job.id)


def add_staged_run(store: Store) -> RunRecord:
    """Store a finished run of four terms, of which one sets in later and one ends earlier, and return it."""
    base = rows("quickstart")[0].model_dump(mode="json")
    config = parse_run({**base, "name": "in stages", "method": STAGED})
    job = store.create_job("stages", [config])
    (run,) = store.runs(job_id=job.id)
    store.job_state(job.id, "running")
    store.run_state(run.id, "running")
    add_curves(store, run, STEPS)
    store.run_progress(run.id, STEPS, 90.0)
    store.run_state(run.id, "finished")
    store.job_state(job.id, "finished")
    return store.run(run.id)


def counts(*, projections: int = 0) -> ParameterCounts:
    return ParameterCounts(
        teacher=37_184_640,
        student=35_410_560,
        adapters=184_320,
        projections=projections,
        largest_teacher=37_184_640,
        student_non_embedding=14_500_000,
        teacher_flops=1.31e9,
        student_flops=1.12e9,
    )


def checked(config: RunConfig, *, measured: bool = False, problems: Sequence[dict[str, str]] = ()) -> dict[str, object]:
    """Return what a check finds of a run, as the analysis worker stores it."""
    if problems:
        return {"problems": list(problems)}
    found = counts(projections=147_456 if config.method.aligns else 0)
    return {
        "problems": [],
        "origin": "a folder",
        "tokens": {"student": 51_864, "teacher": 51_864, "shared": 51_864},
        "parameters": {**asdict(found), "share_of_teacher": found.share_of_teacher, "shares": {}},
        "rank": config.lora.rank,
        "adapted": ADAPTED,
        "gradients": {"terms": ["cross_entropy"], "adapters": len(ADAPTED)},
        **({"estimate": asdict(ESTIMATE)} if measured else {}),
    }


def answer_checks(store: Store, *, problems: Sequence[dict[str, str]] = ()) -> int:
    """Answer every open check as the analysis worker would, and return how many there were."""
    answered = 0
    while (asked := store.claim_check()) is not None:
        result = checked(parse_run(asked.config), measured=asked.measure, problems=problems)
        store.finish_check(asked.id, result)
        answered += 1
    return answered


def add_curves(store: Store, run: RunRecord, steps: int) -> None:
    random = np.random.default_rng(run.position)
    losses = parse_run(run.config).method.losses
    for step in range(4, steps + 1, 4):
        decay = float(np.exp(-step / 50))
        weights = {loss.kind: weight for loss in losses if (weight := loss.weight_at(step / run.steps))}
        terms = {kind: (0.4 + 2.5 * decay) * float(random.uniform(0.85, 1.15)) for kind in weights}
        whole = sum(weights[kind] * value for kind, value in terms.items())
        values = {"loss/total": whole, "learning_rate": 0.003 * min(step / 16, 1 - step / 170)}
        values |= {f"loss/{kind}": value for kind, value in terms.items()}
        values |= {f"share/{kind}": weights[kind] * value / whole for kind, value in terms.items()}
        values |= {f"gradient_norm/{part}": 0.2 + decay for part in ("adapters", "projections")}
        if step % 80 == 0:
            values["development/wer"] = 0.3 + 20 / step
        store.add_metrics(run.id, step, values)


def evaluate(
    store: Store,
    job_id: str,
    run_id: str | None,
    subject: str,
    test_set: str,
    step: int | None,
    rate: float,
    utterances: Sequence[str],
    *,
    label: str = "",
    group: int = 0,
    hashed: str = "",
) -> None:
    random = np.random.default_rng([len(subject), len(test_set), int(1000 * rate)])
    results = [heard(position, name, rate, random) for position, name in enumerate(utterances)]
    words = sum(item.words for item in results)
    kinds = [sum(getattr(item, kind) for item in results) for kind in ("substitutions", "deletions", "insertions")]
    store.add_evaluation(
        job_id=job_id,
        run_id=run_id,
        subject=subject,  # pyright: ignore[reportArgumentType]
        test_set=test_set,
        test_set_hash=hashed or f"hash of {test_set}",
        step=step,
        audio_context=15.0 if test_set == "development" else 30.0,
        normaliser="whisper-english 0.1.15",
        decoding="greedy, at most 10 + 8 tokens per second",
        wer=sum(kinds) / words,
        cer=sum(kinds) / words / 2,
        substitutions=kinds[0],
        deletions=kinds[1],
        insertions=kinds[2],
        words=words,
        heldout_kl=None if subject == "teacher" else 3 * rate,
        real_time_factor=0.05,
        seconds=12.0,
        label=label,
        group=group,
        memory=150_000_000,
        results=results,
    )


def heard(position: int, name: str, rate: float, random: np.random.Generator) -> UtteranceResult:
    """Return an utterance of which about so many words were misheard or missed."""
    said = SENTENCES[position % len(SENTENCES)].split()
    wrong = random.random(len(said)) < rate
    missed = wrong & (random.random(len(said)) < 0.3)
    hypothesis = [
        f"{word[::-1]}" if bad else word for word, bad, gone in zip(said, wrong, missed, strict=True) if not gone
    ]
    return UtteranceResult(
        utterance_id=name,
        position=position,
        reference=" ".join(said),
        hypothesis=" ".join(hypothesis),
        substitutions=int(wrong.sum() - missed.sum()),
        deletions=int(missed.sum()),
        insertions=0,
        words=len(said),
        speaker=None,
        duration=1.5,
        audio_path=f"data/sample/{name}.flac",
    )


def alignments(run: RunRecord) -> list[AlignmentRecord]:
    return [
        AlignmentRecord(
            run_id=run.id,
            step=step,
            stage="before" if step == 0 else "after" if step == STEPS else "during",
            side="encoder" if layer == 2 else "decoder",
            student_layer=layer,
            teacher_layer=layer + 1,
            points=1200,
            linear_cka=0.95 - 0.6 * float(np.exp(-step / 40)),
            geodesic_angle=0.5 + 0.9 * float(np.exp(-step / 40)),
            mutual_knn=0.7 - 0.5 * float(np.exp(-step / 40)),
            neighbours=10,
        )
        for step in PROBED
        for layer in (2, 3)
    ]


def add_map(
    store: Store, runs_folder: Path, run: RunRecord, step: int | None, level: Level, *, teacher_number: int = 0
) -> None:
    """Store a finished map of the encoder's layer pair and its file; without a step, the aligned maps of all steps."""
    layers = (None, None) if step is None else (2, 3)
    store.request_map(run.id, "encoder", *layers, step, level, teacher_number=teacher_number)
    record = store.claim_map()
    assert record is not None
    random = np.random.default_rng(7 + teacher_number)
    each = 1 if level == "utterances" else 20
    points = UTTERANCES * each
    steps = PROBED if step is None else (step,)
    teacher = np.stack([random.normal(size=(points, 2)) * 3] * len(steps))
    apart = random.normal(size=(points, 2))
    student = np.stack([at + apart * (0.4 + 2 * np.exp(-one / 40)) for one, at in zip(steps, teacher, strict=True)])
    near = {side: np.stack([_nearest(one) for one in at]) for side, at in (("student", student), ("teacher", teacher))}
    path = Path(run.id) / "maps" / f"{record.id}.safetensors"
    (runs_folder / path).parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "student_xy": student.astype(np.float32),
            "teacher_xy": teacher.astype(np.float32),
            "student_neighbours": near["student"],
            "teacher_neighbours": near["teacher"],
            "angle": np.linalg.norm(student - teacher, axis=2).astype(np.float32) / 6,
            "places": np.array([(2, 3, one) for one in steps], dtype=np.int32),
            "kept": np.full(len(steps), 0.83, np.float32),
            "trustworthiness": np.full(len(steps), 0.87, np.float32),
            "utterance": np.repeat(np.arange(UTTERANCES), each).astype(np.int32),
            "moment": np.full(points, -1, np.int32)
            if each == 1
            else np.tile(np.arange(each) * 4, UTTERANCES).astype(np.int32),
        },
        runs_folder / path,
    )
    store.finish_map(
        record.id,
        path=str(path),
        trustworthiness=0.87,
        kept=0.83,
        points=points,
        points_total=points,
        how="the learned projection; AlignedUMAP" if step is None else "the learned projection",
        stratified="speaker",
        seconds=3.0,
    )


def _nearest(places: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    return np.argsort(apart, axis=1)[:, 1:11].astype(np.int32)


def add_comparison(store: Store, run: RunRecord, step: int) -> None:
    """Store how alike the encoder's layers are at a step."""
    store.request_comparison(run.id, "encoder", step)
    record = store.claim_comparison()
    assert record is not None
    best = {"linear_cka": 1.0, "rsa": 1.0, "mutual_knn": 1.0, "procrustes_residual": 0.0, "geodesic_angle": 0.0}
    floors = {"linear_cka": 0.01, "rsa": 0.0, "mutual_knn": 0.02, "procrustes_residual": 0.9, "geodesic_angle": 1.57}
    measured = {
        name: {
            "value": (value := 0.2 * floors[name] + 0.8 * ceiling),
            "low": value - 0.03,
            "high": value + 0.04,
            "floor": floors[name],
            "floor_low": floors[name] - 0.01,
            "floor_high": floors[name] + 0.02,
            "ceiling": ceiling,
        }
        for name, ceiling in best.items()
    }
    grid = {
        "student_layers": [0, 1, 2],
        "teacher_layers": [0, 1, 2, 3],
        "cka": [[round(0.95 ** (3 * abs(mine - theirs)), 3) for theirs in range(4)] for mine in range(3)],
    }
    counts = {"points": 1000, "points_total": 1200, "utterances": UTTERANCES}
    store.finish_comparison(record.id, {"pairs": {"2-3": measured}, "grid": grid, **counts})


def write_probe(runs_folder: Path, job_id: str, utterances: Sequence[str]) -> None:
    described = [
        {
            "id": name,
            "text": SENTENCES[position % len(SENTENCES)],
            "audio_path": f"data/sample/{name}.flac",
            "speaker": f"speaker {position % 4}",
            "duration": 1.5,
            "split": "development",
        }
        for position, name in enumerate(utterances)
    ]
    folder = runs_folder / "jobs" / job_id
    (folder / "probe.json").write_text(json.dumps(described), encoding="utf-8")
    # That there are states is enough: no page reads them.
    for number in (0, 1):
        (folder / teacher_states(number)).touch()


def write_audio(folder: Path, utterances: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(1.5 * 16_000)) / 16_000
    for number, name in enumerate(utterances):
        tone = 0.2 * np.sin(2 * np.pi * (200 + 20 * number) * time)
        soundfile.write(folder / f"{name}.flac", tone.astype(np.float32), 16_000)


def write_log(runs_folder: Path, job_id: str, lines: Sequence[str]) -> None:
    log = runs_folder / "jobs" / job_id / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(lines), encoding="utf-8")
