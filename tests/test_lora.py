"""Adapters: where they go, that they learn, and that merging them changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.config import Lora
from core.errors import ConfigError, GradientPathError, ModelError
from core.lora import (
    adapted_modules,
    adapter_parameters,
    add_adapters,
    count_parameters,
    deployed,
    idle_adapters,
    rank_within,
    require_none_idle,
)
from tests.tiny_model import WIDTH, logits, tiny_model

BOTH = Lora(rank=2, alpha=4, encoder_targets=("q_proj", "fc1"), decoder_targets=("encoder_attn.v_proj",))


def test_modules_are_named_by_their_whole_path_in_model_order() -> None:
    assert adapted_modules(tiny_model(), BOTH, freeze_below=1) == [
        "model.encoder.layers.1.self_attn.q_proj",
        "model.encoder.layers.1.fc1",
        "model.encoder.layers.2.self_attn.q_proj",
        "model.encoder.layers.2.fc1",
        "model.decoder.layers.0.encoder_attn.v_proj",
        "model.decoder.layers.1.encoder_attn.v_proj",
    ]


def test_a_short_name_matches_every_attention_of_its_side_and_none_of_the_other() -> None:
    lora = Lora(encoder_targets=(), decoder_targets=("q_proj",))
    assert adapted_modules(tiny_model(), lora, freeze_below=0) == [
        f"model.decoder.layers.{layer}.{attention}.q_proj"
        for layer in (0, 1)
        for attention in ("self_attn", "encoder_attn")
    ]


def test_a_module_that_two_names_match_is_adapted_once() -> None:
    lora = Lora(encoder_targets=("q_proj", "self_attn.q_proj"))
    assert adapted_modules(tiny_model(), lora, freeze_below=2) == ["model.encoder.layers.2.self_attn.q_proj"]


def test_names_that_match_nothing_are_all_reported_with_those_that_would() -> None:
    lora = Lora(encoder_targets=("query", "fc1"), decoder_targets=("roj",))
    with pytest.raises(ConfigError) as caught:
        adapted_modules(tiny_model(), lora, freeze_below=0)
    assert [problem.where for problem in caught.value.problems] == ["lora.encoder_targets", "lora.decoder_targets"]
    assert "'query' matches no linear module; choose from fc1, fc2, self_attn.k_proj" in str(caught.value)
    # A part of a name is no name: 'roj' would have matched every projection.
    assert "'roj'" in str(caught.value)


def test_targets_in_an_encoder_that_is_frozen_altogether_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="no encoder layer is left to adapt"):
        adapted_modules(tiny_model(), BOTH, freeze_below=3)


def test_only_adapters_above_the_frozen_layers_are_trainable() -> None:
    adapted = add_adapters(tiny_model(), BOTH, freeze_below=2, seed=0)
    paths = list(adapter_parameters(adapted))
    assert all(".lora_A." in path or ".lora_B." in path for path in paths)
    assert {path.split(".lora_")[0].removeprefix("base_model.model.") for path in paths} == set(
        adapted_modules(tiny_model(), BOTH, freeze_below=2)
    )
    assert not any("encoder.layers.0" in path or "encoder.layers.1" in path for path in paths)


def test_fresh_adapters_change_neither_what_the_student_says_nor_the_student() -> None:
    student = tiny_model()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    adapted = add_adapters(student, BOTH, freeze_below=0, seed=0).eval()
    assert torch.equal(logits(adapted), logits(student))
    assert student.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_the_seed_decides_the_adapters_and_the_global_stream_is_left_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, same, other = (
        adapter_parameters(add_adapters(tiny_model(), BOTH, freeze_below=0, seed=seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[path], same[path]) for path in one)
    assert all(not torch.equal(one[path], other[path]) for path in one if "lora_A" in path)


def test_every_adapter_that_gets_a_gradient_passes() -> None:
    adapted = add_adapters(tiny_model(), BOTH, freeze_below=0, seed=0)
    logits(adapted).square().sum().backward()
    assert idle_adapters(adapted) == set()
    require_none_idle(idle_adapters(adapted))


def test_adapters_without_a_gradient_are_named() -> None:
    adapted = add_adapters(tiny_model(), BOTH, freeze_below=1, seed=0)
    # A loss on encoder states never reaches the decoder.
    adapted.get_encoder()(torch.randn(1, 8, 40)).last_hidden_state.square().sum().backward()
    with pytest.raises(GradientPathError, match="2 adapters get no gradient") as caught:
        require_none_idle(idle_adapters(adapted))
    assert "model.decoder.layers.0.encoder_attn.v_proj, model.decoder.layers.1.encoder_attn.v_proj" in str(caught.value)
    assert "encoder.layers.1.fc1" not in str(caught.value)


def test_many_idle_adapters_are_shortened() -> None:
    adapted = add_adapters(tiny_model(), BOTH, freeze_below=0, seed=0)
    with pytest.raises(GradientPathError, match=r"8 adapters.*, \.\.\.\)"):
        require_none_idle(idle_adapters(adapted))


def test_merged_adapters_say_what_unmerged_ones_say(tmp_path: Path) -> None:
    student = tiny_model()
    adapted = add_adapters(student, BOTH, freeze_below=0, seed=0).eval()
    with torch.no_grad():
        for path, parameter in adapter_parameters(adapted).items():
            if "lora_B" in path:
                parameter.normal_(generator=torch.Generator().manual_seed(len(path)))
    adapted.save_pretrained(str(tmp_path))
    alone = deployed(student, tmp_path).eval()
    assert (logits(adapted) - logits(student)).abs().max() > 0.01
    assert torch.allclose(logits(alone), logits(adapted), atol=1e-5)
    assert count_parameters(alone) == count_parameters(student)
    assert not any("lora" in name for name, _ in alone.named_parameters())


def linear_modules(lora: Lora) -> list[torch.nn.Linear]:
    model = tiny_model()
    modules = [model.get_submodule(path) for path in adapted_modules(model, lora, freeze_below=1)]
    return [module for module in modules if isinstance(module, torch.nn.Linear)]


@pytest.mark.parametrize("parameters", [224, 225, 447, 448, 1000, 3 * 224 - 1])
def test_a_budget_gives_the_largest_rank_that_fits_exactly(parameters: int) -> None:
    def trained(lora: Lora) -> int:
        return count_parameters(add_adapters(tiny_model(), lora, freeze_below=1, seed=0), only_trainable=True)

    fitting = rank_within(BOTH, parameters, modules=linear_modules(BOTH))
    assert trained(fitting) <= parameters
    assert trained(fitting.model_copy(update={"rank": fitting.rank + 1})) > parameters


def test_alpha_follows_the_rank_so_that_the_adapters_scale_stays() -> None:
    fitting = rank_within(BOTH, 5 * 224, modules=linear_modules(BOTH))
    assert (fitting.rank, fitting.alpha) == (5, 10)
    assert fitting.encoder_targets == BOTH.encoder_targets


def test_a_rank_is_never_larger_than_the_narrowest_side_of_a_module() -> None:
    assert rank_within(BOTH, 10**9, modules=linear_modules(BOTH)).rank == WIDTH


@pytest.mark.parametrize("parameters", [223, 0, -50])
def test_a_budget_that_not_even_rank_one_fits_into_is_refused_with_both_numbers(parameters: int) -> None:
    with pytest.raises(ConfigError, match=f"leaves {max(0, parameters)} parameters for adapters, but rank 1 takes 224"):
        rank_within(BOTH, parameters, modules=linear_modules(BOTH))


def test_adapters_are_counted_as_rank_times_both_widths() -> None:
    adapted = add_adapters(tiny_model(), BOTH, freeze_below=1, seed=0)
    by_hand = 2 * BOTH.rank * (WIDTH + WIDTH) + 2 * BOTH.rank * (WIDTH + 2 * WIDTH) + 2 * BOTH.rank * (WIDTH + WIDTH)
    assert count_parameters(adapted, only_trainable=True) == by_hand


def test_tied_weights_are_counted_once_however_often_a_module_is_given() -> None:
    model = tiny_model()
    storages = {value.data_ptr(): value.numel() for value in model.state_dict().values()}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert count_parameters(model) == sum(storages.values())
    assert count_parameters(model, model, model.get_encoder()) == count_parameters(model)
    assert count_parameters(model, only_trainable=True) == 0


def saved(folder: Path) -> Path:
    """Write adapters of the encoder's last two layers and of the decoder."""
    add_adapters(tiny_model(), BOTH, freeze_below=1, seed=0).save_pretrained(str(folder))
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.safetensors")


A = "base_model.model.model.encoder.layers.1.fc1.lora_A.weight"
B = A.replace("lora_A", "lora_B")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {**t, A.replace("layers.1", "layers.7"): t[A].clone()}, "of no layer of this student: .*layers.7"),
        (
            lambda t: {n.replace("fc1", "fc9"): v for n, v in t.items()},
            r"of no layer of this student: .*fc9.* and \d+ mo",
        ),
        (
            lambda t: {n: v for n, v in t.items() if "layers.1.fc1" not in n},
            "without weights: model.encoder.layers.1.fc1",
        ),
        (lambda t: {n: v for n, v in t.items() if n != B}, "of another shape: model.encoder.layers.1.fc1"),
        (lambda t: {**t, A: torch.zeros(2, WIDTH + 1)}, "of another shape: model.encoder.layers.1.fc1"),
        (lambda t: {**t, B: torch.zeros(2 * WIDTH, 3)}, "of another shape: model.encoder.layers.1.fc1"),
        (lambda t: {**t, A: t[A] * torch.nan}, "values that are not finite: .*fc1.lora_A"),
        (lambda t: {"x" * 5000: torch.zeros(1)}, "0 of its modules have some"),
        (lambda t: {}, "0 of its modules have some"),
    ],
)
def test_adapters_that_do_not_fit_the_layers_are_refused_and_named(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], words: str, tmp_path: Path
) -> None:
    deployed(tiny_model(), saved(tmp_path))
    rewritten(tmp_path, change)
    with pytest.raises(ModelError, match=words) as caught:
        deployed(tiny_model(), tmp_path)
    assert len(str(caught.value)) < 1500


def test_adapters_of_a_deeper_student_are_refused(tmp_path: Path) -> None:
    student = tiny_model()
    saved(tmp_path)
    student.model.encoder.layers = student.model.encoder.layers[:2]
    with pytest.raises(ModelError, match=r"of no layer of this student: .*encoder\.layers\.2"):
        deployed(student, tmp_path)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"nothing", b"[1]"])
def test_adapters_that_cannot_be_read_are_a_model_error(name: str, content: bytes | None, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        deployed(tiny_model(), tmp_path)
