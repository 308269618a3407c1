"""A mixture of experts: its formula, its balance, its size, and that it comes back from disk as it was."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from core.config import Lora, Mixture
from core.errors import ConfigError, ModelError
from core.lora import adapter_parameters, add_adapters, count_parameters, deployed, idle_adapters
from core.mixture import (
    SETTINGS_FILE,
    WEIGHTS_FILE,
    MixtureLinear,
    Router,
    Routing,
    balance_loss,
    expert_rank,
    inactive_parameters,
    mean_balance_loss,
    mixed_modules,
    of_valid_points,
    recorded,
    save_experts,
)
from tests.tiny_model import WIDTH, logits, tiny_model

ALL = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
ROUTERS = [Mixture(experts=3), Mixture(experts=3, top_k=1), Mixture(experts=3, top_k=2)]
names = [f"top {settings.top_k}" for settings in ROUTERS]


def lora(**mixture: int) -> Lora:
    settings = Mixture.model_validate({"experts": 3, **mixture})
    return Lora(rank=8, alpha=16, encoder_targets=ALL, decoder_targets=("fc1", "encoder_attn.k_proj"), mixture=settings)


def trained(module: nn.Module, seed: int = 0) -> None:
    """Give every trainable weight a value, as training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(module).values():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))


def mixed(settings: Mixture, *, inputs: int = 5, outputs: int = 7, rank: int = 2) -> MixtureLinear:
    base = nn.Linear(inputs, outputs).requires_grad_(False)
    module = MixtureLinear(base, settings, rank=rank, scale=1.5).double().eval()
    trained(module)
    return module


def gates_by_hand(module: MixtureLinear, point: Tensor, top_k: int | None) -> list[float]:
    logits = [float(row @ point) for row in module.router.weight.detach()]
    powers = [torch.tensor(logit, dtype=torch.float64).exp().item() for logit in logits]
    probabilities = [power / sum(powers) for power in powers]
    if top_k is None:
        return probabilities
    kept = sorted(range(len(powers)), key=lambda expert: -powers[expert])[:top_k]
    total = 1.0 if top_k == 1 else sum(probabilities[expert] for expert in kept)
    return [probabilities[expert] / total if expert in kept else 0.0 for expert in range(len(powers))]


@pytest.mark.parametrize("settings", ROUTERS, ids=names)
def test_the_output_is_the_base_and_the_gated_sum_of_the_experts(settings: Mixture) -> None:
    module, states = mixed(settings), torch.randn(2, 4, 5, dtype=torch.float64)
    points = states.flatten(0, 1)
    gates = torch.tensor([gates_by_hand(module, point, settings.top_k) for point in points], dtype=torch.float64)
    experts = torch.einsum("kro,kri,ni->nko", module.lora_B, module.lora_A, points)
    expected = module.base(points) + 1.5 * torch.einsum("nk,nko->no", gates, experts)
    torch.testing.assert_close(module(states).flatten(0, 1), expected, rtol=1e-12, atol=1e-12)


def test_experts_that_are_all_alike_are_one_adapter_whatever_the_gates() -> None:
    module, states = mixed(Mixture(experts=3)), torch.randn(6, 5, dtype=torch.float64)
    with torch.no_grad():
        module.lora_A.copy_(module.lora_A[:1].expand_as(module.lora_A))
        module.lora_B.copy_(module.lora_B[:1].expand_as(module.lora_B))
    one = module.base(states) + 1.5 * states @ module.lora_A[0].T @ module.lora_B[0]
    torch.testing.assert_close(module(states), one, rtol=1e-12, atol=1e-12)


def test_even_gates_make_one_adapter_of_all_experts_side_by_side() -> None:
    module, states = mixed(Mixture(experts=3)), torch.randn(6, 5, dtype=torch.float64)
    nn.init.zeros_(module.router.weight)
    dense = module.lora_A.flatten(0, 1).T @ module.lora_B.flatten(0, 1)
    torch.testing.assert_close(module(states), module.base(states) + 1.5 / 3 * states @ dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", ROUTERS, ids=names)
def test_gates_and_shares_are_what_the_router_promises(settings: Mixture) -> None:
    router = Router(5, settings).double()
    routing = router(50 * torch.randn(40, 5, dtype=torch.float64))
    even = torch.ones(40, dtype=torch.float64)
    torch.testing.assert_close(routing.probabilities.sum(dim=-1), even)
    torch.testing.assert_close(routing.dispatch.sum(dim=-1), (settings.top_k or 1) * even)
    if settings.top_k is None:
        assert torch.equal(routing.gates, routing.probabilities)
        return
    assert ((routing.gates > 0).sum(dim=-1) == settings.top_k).all()
    assert torch.equal(routing.dispatch > 0, routing.gates > 0)
    expected = even if settings.top_k > 1 else routing.probabilities.max(dim=-1).values
    torch.testing.assert_close(routing.gates.sum(dim=-1), expected)


@pytest.mark.parametrize("settings", ROUTERS, ids=names)
def test_the_router_learns_from_the_output(settings: Mixture) -> None:
    # Trap: a single gate that is scaled to one is a constant, and its router never learns from the task.
    module = mixed(settings)
    module(torch.randn(8, 5, dtype=torch.float64)).square().sum().backward()
    assert module.router.weight.grad is not None
    assert module.router.weight.grad.abs().max() > 1e-6


def test_the_router_reads_the_input_in_its_own_precision() -> None:
    module, states = mixed(Mixture(experts=3)).float(), torch.randn(20, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        routing, output = module.router(states), module(states)
    assert routing.gates.dtype == torch.float32
    torch.testing.assert_close(routing.gates, module.router(states).gates)
    torch.testing.assert_close(output.float(), module(states), rtol=0.05, atol=0.5)


def routing(dispatch: Sequence[Sequence[float]], probabilities: Sequence[Sequence[float]]) -> Routing:
    return Routing(torch.tensor(probabilities), torch.tensor(dispatch), torch.tensor(dispatch))


def test_the_balance_is_the_number_of_experts_times_shares_times_probabilities() -> None:
    sent = routing([[1.0, 0], [1, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    by_hand = 2 * (3 / 4 * (0.9 + 0.6 + 0.7 + 0.2) / 4 + 1 / 4 * (0.1 + 0.4 + 0.3 + 0.8) / 4)
    assert float(balance_loss(sent)) == pytest.approx(by_hand)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_balance_of_the_k_largest_is_that_of_mixtral(top_k: int) -> None:
    router = Router(5, Mixture(experts=4, top_k=top_k))
    nn.init.normal_(router.weight)
    states = torch.randn(60, 5)
    logits = nn.functional.linear(states, router.weight)
    expected = load_balancing_loss_func((logits,), num_experts=4, top_k=top_k)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(balance_loss(router(states)), expected)


@given(some.integers(2, 6), some.integers(0, 2**31))
def test_with_all_experts_the_balance_is_one_and_the_squared_variation_of_their_loads(experts: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    shares = torch.randn(9, experts, generator=draw, dtype=torch.float64).mul(3).softmax(dim=-1)
    loads = shares.sum(dim=0)
    variation = loads.var(correction=0) / loads.mean() ** 2
    assert float(balance_loss(Routing(shares, shares, shares))) == pytest.approx(1 + float(variation))


def test_the_balance_is_one_where_loads_are_even_and_their_number_where_one_has_all() -> None:
    even = torch.full((5, 4), 0.25)
    assert float(balance_loss(Routing(even, even, even))) == pytest.approx(1)
    one = torch.tensor([[1.0, 0, 0, 0]] * 5)
    assert float(balance_loss(Routing(one, one, one))) == pytest.approx(4)


def test_the_balance_of_several_routers_is_their_mean() -> None:
    even, one = torch.full((5, 2), 0.5), torch.tensor([[1.0, 0]] * 7)
    assert float(mean_balance_loss({"a": Routing(even, even, even), "b": Routing(one, one, one)})) == pytest.approx(1.5)


FRAMES = torch.tensor([[True, True, True, False], [True, False, False, False]])
TOKENS = torch.tensor([[False, True, True], [False, True, False]])


@pytest.mark.parametrize("settings", ROUTERS, ids=names)
def test_what_stands_in_the_padding_changes_no_balance_and_gets_no_gradient(settings: Mixture) -> None:
    router = Router(5, settings).double()
    states = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    other = torch.where(FRAMES[..., None], states.detach(), 100 * torch.randn(2, 4, 5, dtype=torch.float64))

    def balance(of: Tensor) -> Tensor:
        valid = of_valid_points({"model.encoder.layers.0.fc1": router(of)}, frame_mask=FRAMES, token_mask=TOKENS)
        return mean_balance_loss(valid)

    value = balance(states)
    assert torch.equal(value, balance(other))
    value.backward()
    assert states.grad is not None
    assert (states.grad[~FRAMES] == 0).all()
    assert (states.grad[FRAMES] != 0).any()


def test_cross_attention_reads_frames_for_its_keys_and_values_and_tokens_for_the_rest() -> None:
    def of(mask: Tensor) -> Routing:
        filled = torch.zeros(*mask.shape, 2)
        return Routing(filled, filled, filled)

    layer = "model.decoder.layers.0."
    routings = {
        "model.encoder.layers.1.self_attn.k_proj": of(FRAMES),
        f"{layer}encoder_attn.k_proj": of(FRAMES),
        f"{layer}encoder_attn.v_proj": of(FRAMES),
        f"{layer}encoder_attn.q_proj": of(TOKENS),
        f"{layer}self_attn.k_proj": of(TOKENS),
        f"{layer}fc1": of(TOKENS),
    }
    valid = of_valid_points(routings, frame_mask=FRAMES, token_mask=TOKENS)
    assert [len(each.gates) for each in valid.values()] == [4, 4, 4, 3, 3, 3]


def linear_modules(lora: Lora) -> list[nn.Linear]:
    return [module.base for module in mixed_modules(add_adapters(tiny_model(), lora, freeze_below=0, seed=0)).values()]


@pytest.mark.parametrize("experts", [2, 3, 4, 7])
@pytest.mark.parametrize("rank", [11, 13, 16])
def test_a_mixture_has_as_many_parameters_as_its_adapters_or_the_next_lower_number(experts: int, rank: int) -> None:
    def trainable(settings: Lora) -> int:
        return count_parameters(add_adapters(tiny_model(), settings, freeze_below=0, seed=0), only_trainable=True)

    settings = lora(experts=experts).model_copy(update={"rank": rank})
    one = trainable(settings.model_copy(update={"mixture": None}))
    own = trainable(settings)
    modules = linear_modules(settings)
    step = experts * sum(module.in_features + module.out_features for module in modules)
    assert own <= one < own + step
    assert {
        module.lora_A.shape[1]
        for module in mixed_modules(add_adapters(tiny_model(), settings, freeze_below=0, seed=0)).values()
    } == {expert_rank(settings, modules)}


def test_in_an_encoder_both_sizes_are_equal_at_experts_times_rank_and_a_half() -> None:
    settings = Lora(rank=10, alpha=20, encoder_targets=ALL, mixture=Mixture(experts=4))
    one = add_adapters(tiny_model(), settings.model_copy(update={"mixture": None}), freeze_below=1, seed=0)
    four = add_adapters(tiny_model(), settings, freeze_below=1, seed=0)
    assert count_parameters(four, only_trainable=True) == count_parameters(one, only_trainable=True)
    assert {module.lora_A.shape[1] for module in mixed_modules(four).values()} == {2}
    assert {module.scale for module in mixed_modules(four).values()} == {2.0}


def test_with_a_gain_of_their_number_even_gates_make_the_experts_one_adapter() -> None:
    settings = Lora(rank=10, alpha=20, encoder_targets=("fc1",), mixture=Mixture(experts=4, gain=4))
    adapted = add_adapters(tiny_model(), settings, freeze_below=2, seed=0).eval()
    trained(adapted)
    (module,) = mixed_modules(adapted).values()
    nn.init.zeros_(module.router.weight)
    states = torch.randn(6, WIDTH)
    one = module.base(states) + 20 / 10 * states @ module.lora_A.flatten(0, 1).T @ module.lora_B.flatten(0, 1)
    torch.testing.assert_close(module(states), one, rtol=1e-4, atol=1e-3)


def test_experts_that_do_not_fit_are_refused_with_what_would() -> None:
    settings = Lora(rank=3, encoder_targets=ALL, mixture=Mixture(experts=4))
    with pytest.raises(ConfigError, match=r"4 experts of rank 1 .* raise lora.rank to 6, or lower experts"):
        add_adapters(tiny_model(), settings, freeze_below=0, seed=0)
    add_adapters(tiny_model(), settings.model_copy(update={"rank": 6}), freeze_below=0, seed=0)


def test_a_fresh_mixture_says_what_the_student_says_and_leaves_it_alone() -> None:
    student = tiny_model()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    adapted = add_adapters(student, lora(), freeze_below=1, seed=0).eval()
    assert torch.equal(logits(adapted), logits(student))
    assert student.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(".lora_" in path or ".router." in path for path in adapter_parameters(adapted))


def test_the_seed_decides_experts_and_routers_and_the_global_stream_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (
        adapter_parameters(add_adapters(tiny_model(), lora(), freeze_below=0, seed=s)) for s in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[path], same[path]) for path in one)
    assert not any(torch.equal(one[path], other[path]) for path in one if "lora_B" not in path)
    first = next(value for path, value in one.items() if "lora_A" in path)
    assert not torch.equal(first[0], first[1])


def test_a_router_that_leaves_experts_out_goes_through_fewer_parameters() -> None:
    each = 2 * WIDTH * 5  # of one expert of rank 5 beside a square module
    settings = Lora(rank=20, encoder_targets=("q_proj",), mixture=Mixture(experts=3))
    assert expert_rank(settings, [nn.Linear(WIDTH, WIDTH)]) == 6
    for top_k, left_out in ((None, 0), (2, 1), (1, 2)):
        mixture = Mixture(experts=3, top_k=top_k)
        chosen = settings.model_copy(update={"rank": 17, "mixture": mixture})
        adapted = add_adapters(tiny_model(), chosen, freeze_below=1, seed=0)
        assert inactive_parameters(adapted) == 2 * left_out * each
    assert inactive_parameters(tiny_model()) == 0


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_mixture_comes_back_from_disk_as_it_was(tmp_path: Path, top_k: int | None) -> None:
    student = tiny_model()
    settings = lora().model_copy(update={"mixture": Mixture(experts=3, top_k=top_k)})
    adapted = add_adapters(student, settings, freeze_below=0, seed=0).eval()
    trained(adapted)
    save_experts(adapted, tmp_path)  # pyright: ignore[reportArgumentType]
    again = deployed(student, tmp_path)
    assert not again.training
    assert torch.equal(logits(again), logits(adapted))
    assert (logits(adapted) - logits(student)).abs().max() > 0.01
    assert adapter_parameters(again).keys() == adapter_parameters(adapted).keys()


def test_every_expert_and_router_is_recorded_during_one_pass_and_not_after_it() -> None:
    adapted = add_adapters(tiny_model(), lora(), freeze_below=1, seed=0).eval()
    with recorded(adapted) as routings:
        logits(adapted)
    assert routings.keys() == mixed_modules(adapted).keys()
    with recorded(tiny_model()) as nothing:
        logits(adapted)
    assert nothing == {}
    assert not any(module.router._forward_hooks for module in mixed_modules(adapted).values())


def test_modules_whose_experts_get_no_gradient_are_named() -> None:
    adapted = add_adapters(tiny_model(), lora(), freeze_below=2, seed=0)
    adapted.get_encoder()(torch.randn(1, 8, 40)).last_hidden_state.square().sum().backward()
    assert idle_adapters(adapted) == {
        f"model.decoder.layers.{layer}.{name}" for layer in (0, 1) for name in ("fc1", "encoder_attn.k_proj")
    }


@pytest.mark.parametrize("change", ["layer", "weights", "more", "settings"])
def test_experts_that_are_not_of_the_student_are_a_model_error(change: str, tmp_path: Path) -> None:
    adapted = add_adapters(tiny_model(), lora(), freeze_below=1, seed=0)
    save_experts(adapted, tmp_path)  # pyright: ignore[reportArgumentType]
    deployed(tiny_model(), tmp_path)
    student = tiny_model()
    weights = load_file(tmp_path / WEIGHTS_FILE)
    match change:
        case "layer":
            student.model.encoder.layers = student.model.encoder.layers[:2]
        case "weights":
            fewer = {name: value for name, value in weights.items() if "layers.1.fc1" not in name}
            save_file(fewer, tmp_path / WEIGHTS_FILE)
        case "more":
            save_file({**weights, "surprise": torch.zeros(1)}, tmp_path / WEIGHTS_FILE)
        case "settings":
            (tmp_path / SETTINGS_FILE).write_text("{}")
    with pytest.raises(ModelError, match="not of this student"):
        deployed(student, tmp_path)
