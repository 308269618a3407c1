"""Adapters on disk: best and last are always whole, whatever happens while they are written."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from core.checkpoints import Name, adapters_step, save_adapters
from core.config import Lora, Mapping, Mixture
from core.lora import adapter_parameters, add_adapters, deployed
from core.mapping import LayerPair, PointMap
from tests.tiny_model import WIDTH, logits, tiny_model

LORA = Lora(rank=2, alpha=4, encoder_targets=("fc1",))
BOTH: tuple[Name, ...] = ("best", "last")
FILES = {"adapter_config.json", "adapter_model.safetensors", "projections.safetensors"}


@pytest.fixture
def model() -> PeftModel:
    adapted = add_adapters(tiny_model(), LORA, freeze_below=0, seed=0).eval()
    assert isinstance(adapted, PeftModel)
    return adapted


def mapped(**mapping: Any) -> PointMap:
    pairs = (LayerPair("encoder", 1, 2), LayerPair("encoder", 2, 3))
    settings = Mapping.model_validate(mapping)
    return PointMap(settings, student_width=WIDTH, teacher_width=WIDTH, pairs=pairs, statistics={}, seed=0)


@pytest.fixture
def point_map() -> PointMap:
    return mapped()


def trained_to(model: PeftModel, value: float) -> PeftModel:
    """Give every adapter one value, so that a step is known by its weights."""
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.fill_(value)
    return model


def value_in(folder: Path) -> float:
    (value,) = {
        float(weight)
        for tensor in load_file(folder / "adapter_model.safetensors").values()
        for weight in tensor.unique()
    }
    return value


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_what_is_written_is_what_was_trained(tmp_path: Path, model: PeftModel, point_map: PointMap) -> None:
    trained_to(model, 0.25)
    (projection,) = point_map.parameters()
    torch.nn.init.normal_(projection)
    folder = save_adapters(tmp_path / "adapters", model=model, point_map=point_map, step=50, names=BOTH)
    assert folder == tmp_path / "adapters" / "step-000050"
    assert {path.name for path in folder.iterdir()} >= FILES
    assert torch.allclose(logits(deployed(tiny_model(), folder).eval()), logits(model), atol=1e-5)
    assert torch.equal(load_file(folder / "projections.safetensors")["projections.shared.weight"], projection)


def test_a_mixture_is_written_with_its_projection_and_is_the_student_that_is_deployed(
    tmp_path: Path, point_map: PointMap
) -> None:
    settings = LORA.model_copy(update={"rank": 8, "mixture": Mixture(experts=3, top_k=2)})
    model = add_adapters(tiny_model(), settings, freeze_below=0, seed=0).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.normal_()
    folder = save_adapters(tmp_path, model=model, point_map=point_map, step=5, names=BOTH)
    files = {path.name for path in folder.iterdir()}
    assert files == {"mixture.json", "mixture.safetensors", "projections.safetensors"}
    assert torch.equal(logits(deployed(tiny_model(), tmp_path / "best").eval()), logits(model))


def test_every_projection_of_a_run_is_written_and_can_be_read_back(tmp_path: Path, model: PeftModel) -> None:
    trained, fresh = (mapped(projection="hidden", hidden_width=3, sharing="per_pair") for _ in range(2))
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter)
    folder = save_adapters(tmp_path, model=model, point_map=trained, step=1, names=BOTH)
    fresh.load_state_dict(load_file(folder / "projections.safetensors"))
    assert len(list(fresh.parameters())) == 6
    assert all(torch.equal(*both) for both in zip(fresh.parameters(), trained.parameters(), strict=True))


def test_without_a_projection_none_is_written(tmp_path: Path, model: PeftModel) -> None:
    folder = save_adapters(tmp_path, model=model, point_map=mapped(projection="none"), step=1, names=BOTH)
    assert not (folder / "projections.safetensors").exists()


def test_best_stays_where_it_is_while_last_moves_on(tmp_path: Path, model: PeftModel, point_map: PointMap) -> None:
    steps: dict[int, tuple[Name, ...]] = {10: BOTH, 20: ("last",), 30: ("last",)}
    for step, names in steps.items():
        save_adapters(tmp_path, model=trained_to(model, step / 100), point_map=point_map, step=step, names=names)
    assert value_in(tmp_path / "best") == pytest.approx(0.1)
    assert value_in(tmp_path / "last") == pytest.approx(0.3)
    # What nothing points at is removed.
    assert visible(tmp_path) == {"best", "last", "step-000010", "step-000030"}


def test_a_better_step_takes_the_place_of_the_best(tmp_path: Path, model: PeftModel, point_map: PointMap) -> None:
    for step in (10, 20):
        save_adapters(tmp_path, model=trained_to(model, step / 100), point_map=point_map, step=step, names=BOTH)
    assert value_in(tmp_path / "best") == value_in(tmp_path / "last") == pytest.approx(0.2)
    assert visible(tmp_path) == {"best", "last", "step-000020"}


def test_the_names_move_with_the_run_when_its_folder_is_moved(
    tmp_path: Path, model: PeftModel, point_map: PointMap
) -> None:
    save_adapters(tmp_path / "here", model=trained_to(model, 0.5), point_map=point_map, step=10, names=BOTH)
    (tmp_path / "here").rename(tmp_path / "there")
    assert value_in(tmp_path / "there" / "best") == 0.5


def test_a_disk_that_fills_up_in_the_middle_leaves_the_previous_ones(
    tmp_path: Path, model: PeftModel, point_map: PointMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_adapters(tmp_path, model=trained_to(model, 0.1), point_map=point_map, step=10, names=BOTH)

    def fill_up(self: PeftModel, folder: str, **options: Any) -> None:
        Path(folder, "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PeftModel, "save_pretrained", fill_up)
    with pytest.raises(OSError, match="No space left"):
        save_adapters(tmp_path, model=trained_to(model, 0.2), point_map=point_map, step=20, names=BOTH)
    assert {path.name for path in tmp_path.iterdir()} == {"best", "last", "step-000010"}
    assert value_in(tmp_path / "best") == value_in(tmp_path / "last") == pytest.approx(0.1)
    monkeypatch.undo()
    save_adapters(tmp_path, model=trained_to(model, 0.3), point_map=point_map, step=20, names=BOTH)
    assert value_in(tmp_path / "best") == pytest.approx(0.3)


def test_what_a_killed_process_left_half_done_is_in_nobodys_way(
    tmp_path: Path, model: PeftModel, point_map: PointMap
) -> None:
    save_adapters(tmp_path, model=trained_to(model, 0.1), point_map=point_map, step=10, names=BOTH)
    half = tmp_path / ".writing-killed"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    (tmp_path / ".last").symlink_to("step-000020")
    assert value_in(tmp_path / "last") == pytest.approx(0.1)
    save_adapters(tmp_path, model=trained_to(model, 0.2), point_map=point_map, step=20, names=("last",))
    assert value_in(tmp_path / "last") == pytest.approx(0.2)
    assert value_in(tmp_path / "best") == pytest.approx(0.1)


def test_what_a_killed_save_had_begun_is_removed_by_the_runs_next_save_and_nothing_else(
    tmp_path: Path, model: PeftModel, point_map: PointMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: PeftModel, folder: str, **options: Any) -> None:
        Path(folder, "adapter_model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    def save(run: str, step: int) -> None:
        save_adapters(tmp_path / run, model=model, point_map=point_map, step=step, names=BOTH)

    def begun(run: str) -> list[Path]:
        return list((tmp_path / run).glob(".*-*"))

    with monkeypatch.context() as patch:
        patch.setattr(PeftModel, "save_pretrained", killed)
        patch.setattr(shutil, "rmtree", lambda *path, **options: None)  # who is killed tidies nothing up
        for run in ("one", "two"):
            with pytest.raises(KeyboardInterrupt):
                save(run, 10)
    assert [len(begun("one")), len(begun("two"))] == [1, 1]
    link = tmp_path / "one" / f"{begun('one')[0].name}-link"
    link.symlink_to(tmp_path / "two")
    save("one", 20)
    assert begun("one") == [link]
    assert len(begun("two")) == 1
    assert visible(tmp_path / "one") == {"best", "last", "step-000020"}


def test_a_step_that_was_written_is_not_written_again(tmp_path: Path, model: PeftModel, point_map: PointMap) -> None:
    save_adapters(tmp_path, model=trained_to(model, 0.1), point_map=point_map, step=10, names=("last",))
    save_adapters(tmp_path, model=trained_to(model, 0.9), point_map=point_map, step=10, names=("best",))
    assert value_in(tmp_path / "best") == value_in(tmp_path / "last") == pytest.approx(0.1)


def test_the_step_of_adapters_is_known_where_there_are_any(
    tmp_path: Path, model: PeftModel, point_map: PointMap
) -> None:
    assert adapters_step(tmp_path / "none", "best") is None
    save_adapters(tmp_path, model=model, point_map=point_map, step=50, names=BOTH)
    save_adapters(tmp_path, model=model, point_map=point_map, step=100, names=("last",))
    assert (adapters_step(tmp_path, "best"), adapters_step(tmp_path, "last")) == (50, 100)
    shutil.rmtree(tmp_path / "step-000050")
    assert adapters_step(tmp_path, "best") is None
