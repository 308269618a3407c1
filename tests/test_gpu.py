"""What a CUDA device computes: as exact as on a CPU, and whole jobs. Run with pytest -m gpu where there is one."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.calibration import measure_parts
from core.config import PrunedStudent, RunConfig, parse_run
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.fused_head import LiveTeacher, TopTeacher, Wanted, top_teacher
from core.job import run_job
from core.lora import add_adapters, deployed
from core.side_by_side import train_side_by_side
from core.store import Store
from tests.engine import run_config, tiny_en, utterances
from tests.test_calibration import SMALL_TRIALS
from tests.test_fused_head import head_means, weighted, written_out
from tests.test_groups import experts_and_students
from tests.test_job import MANIFOLD, MIXTURE, SMALL, never
from tests.test_side_by_side import BOTH, CE, DECODER, alone, apart, classroom, configs, refuse, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that PyTorch can use"),
]
CUDA = torch.device("cuda")
TOKENS, WIDTH, VOCABULARY = 300, 256, 51_864


@pytest.fixture(scope="module")
def teacher() -> Whisper:
    """The real tiny.en on the device; other tests keep theirs on the CPU."""
    loaded = tiny_en()
    return Whisper(dataclasses.replace(loaded, model=copy.deepcopy(loaded.model)), language="en").to(CUDA)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(CUDA)


def test_the_fused_head_is_as_exact_as_on_a_cpu() -> None:
    vocabulary, mine = drawn(1, VOCABULARY, WIDTH) / 16, drawn(2, TOKENS, WIDTH)
    theirs = mine + drawn(3, TOKENS, WIDTH) / 3
    labels, wanted = torch.arange(TOKENS, device=CUDA) * 7, Wanted(1.0, 0.8, 2.0)
    plain, fused = mine.clone().requires_grad_(), mine.float().requires_grad_()
    expected = written_out(plain, vocabulary, theirs @ vocabulary.T, wanted, labels)
    weighted(expected, wanted).backward()
    taught = LiveTeacher(theirs.float(), vocabulary.float())
    (found,) = head_means([fused], vocabulary.float(), wanted=[wanted], targets=labels, teacher=taught)
    weighted(found, wanted).backward()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-7)
    assert plain.grad is not None
    assert fused.grad is not None
    assert (fused.grad.double() - plain.grad).norm() / plain.grad.norm() < 1e-6


@pytest.mark.parametrize("kind", ["live", "top"])
def test_in_half_precision_the_fused_head_stays_near(kind: str) -> None:
    vocabulary, mine = drawn(1, VOCABULARY, WIDTH).float() / 16, drawn(2, TOKENS, WIDTH).float()
    theirs = mine + drawn(3, TOKENS, WIDTH).float() / 3
    top = top_teacher(theirs @ vocabulary.T, count=32, temperature=2.0)
    taught: LiveTeacher | TopTeacher = LiveTeacher(theirs, vocabulary) if kind == "live" else top
    slopes = []
    for halved in (False, True):
        states = mine.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=halved):
            (found,) = head_means([states], vocabulary, wanted=[Wanted(0.0, 1.0, 2.0)], teacher=taught)
        found.soft_labels.backward()
        assert states.grad is not None
        slopes.append(states.grad)
    assert (slopes[1] - slopes[0]).norm() / slopes[0].norm() < 0.03


@pytest.mark.parametrize("lora", [DECODER, BOTH], ids=["decoder", "both"])
def test_a_student_in_a_group_becomes_what_it_becomes_alone(
    teacher: Whisper, tmp_path: Path, lora: dict[str, Any]
) -> None:
    chosen = configs(lora, steps=50, length_buckets=4)
    room = classroom(utterances(tmp_path, train=6), teacher, chosen[0])
    singles, group = ([on_device(room.member(config)) for config in chosen] for _ in range(2))
    begun = [value.clone() for value in weights(group[0])]
    for single in singles:
        alone(single)
    train_side_by_side(group, frozen=room.frozen, failed=refuse)
    assert all(apart(weights(member), weights(single)) < 1e-5 for member, single in zip(group, singles, strict=True)), [
        apart(weights(member), weights(single)) for member, single in zip(group, singles, strict=True)
    ]
    assert apart(weights(group[0]), begun) > 1e-3


def on_device(member: Any) -> Any:
    """Return a member in float32, whose map is where its student is."""
    member.point_map.to(CUDA)
    training = member.config.training.model_copy(update={"precision": "float32"})
    return dataclasses.replace(member, config=member.config.model_copy(update={"training": training}))


def test_the_merged_student_says_what_the_adapted_one_says(teacher: Whisper, tmp_path: Path) -> None:
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))
    adapted = add_adapters(student.plain, run_config(lora=BOTH).lora, freeze_below=0, seed=0).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    adapted.save_pretrained(str(tmp_path))
    merged = deployed(student.plain, tmp_path).eval()
    torch.nn.Module.to(merged, CUDA)
    features, tokens = torch.randn(2, 80, 3000, device=CUDA), torch.arange(20, device=CUDA).reshape(2, 10)
    given = {"input_features": features, "decoder_input_ids": tokens}
    with torch.inference_mode():
        plain, mine, theirs = (model(**given).logits for model in (student.plain, adapted, merged))
    assert (mine - plain).norm() / plain.norm() > 0.01
    assert (mine - theirs).norm() / mine.norm() < 1e-5


def finished(store: Store, folder: Path, *chosen: RunConfig) -> str:
    job = store.create_job("on a GPU", list(chosen))
    run_job(job.id, store=store, runs_folder=folder, stop=never)
    assert [run.state for run in store.runs(job_id=job.id)] == ["finished"] * len(chosen)
    return job.id


def run(
    name: str, *, method: dict[str, Any] = MANIFOLD, lora: dict[str, Any] | None = None, **training: Any
) -> RunConfig:
    fields = {**SMALL, "name": name, "method": method, "training": {**SMALL["training"], "device": "cuda", **training}}
    return parse_run({**fields, **({"lora": lora} if lora else {})})


@pytest.mark.parametrize("precision", ["auto", "float32", "float16"])
def test_a_job_runs_from_end_to_end(store: Store, tmp_path: Path, precision: str) -> None:
    job_id = finished(
        store,
        tmp_path,
        run("manifold", precision=precision),
        run("mixture", lora=MIXTURE, precision=precision),
        *(run(f"decoder {seed}", method={"losses": [CE]}, lora=DECODER, precision=precision) for seed in range(2)),
    )
    (teacher,) = [item for item in store.evaluations(job_id=job_id, test_set="test") if item.subject == "teacher"]
    assert teacher.wer < 0.7
    for one in store.runs(job_id=job_id):
        (healed,) = [item for item in store.evaluations(run_id=one.id) if item.test_set == "test"]
        assert healed.heldout_kl is not None
        assert 0 < healed.heldout_kl < 20


def test_two_teachers_and_their_student_are_a_job(store: Store, tmp_path: Path) -> None:
    finished(store, tmp_path, *experts_and_students("mean", "weighted", "best"))


def losses(store: Store, job_id: str) -> list[float]:
    return [metric.value for one in store.runs(job_id=job_id) for metric in store.metrics(one.id, ["loss/total"])]


@pytest.mark.parametrize("how", ["cached", "compact"])
def test_what_was_kept_says_the_same_to_a_later_job(store: Store, tmp_path: Path, how: str) -> None:
    soft = {"losses": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}]}
    live, first, later = (
        losses(store, finished(store, tmp_path, run(kind, method=soft, teacher_outputs=kind, precision="float32")))
        for kind in ("live", how, how)
    )
    assert first == pytest.approx(later, rel=1e-6)
    assert first == pytest.approx(live, rel=1e-2 if how == "cached" else 0.3)


def test_two_processes_that_share_a_device_find_what_one_finds(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for devices in ([CUDA], [torch.device("cuda", 0)] * 2):
        monkeypatch.setattr("core.job.devices_of", lambda config, devices=devices: devices)
        chosen = [run(name, precision="float32", learning_rate=rate) for name, rate in (("one", 1e-3), ("two", 3e-3))]
        found.append(losses(store, finished(store, tmp_path, *chosen)))
    assert len(found[0]) == 4
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_two_processes_that_share_a_device_train_one_run_together(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    found = []
    for devices in ([CUDA], [torch.device("cuda", 0)] * 2):
        monkeypatch.setattr("core.job.devices_of", lambda config, devices=devices: devices)
        found.append(losses(store, finished(store, tmp_path, run("one", precision=precision))))
    assert len(found[0]) == 2
    assert found[0] == pytest.approx(found[1], rel=1e-5 if precision == "float32" else 1e-2)


def test_the_parts_of_a_job_are_measured_with_the_name_of_the_chip() -> None:
    measured = measure_parts(CUDA, rounds=1, trials=SMALL_TRIALS)
    assert measured.device == torch.cuda.get_device_name()
    assert all(point.seconds > 0 for point in measured.points)
