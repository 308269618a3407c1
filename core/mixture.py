"""A mixture of low-rank experts in the place of one adapter: what the project's method is measured against.

    y = W x + gain * alpha / rank * sum_k g_k(x) B_k A_k x        g(x) = softmax(R x), all of it or its k largest

Every adapted linear module has experts (A_k, B_k) and a linear router R on the module's own input, so that each frame
and each token is weighed by itself. All experts together are one adapter of rank experts * rank whose middle is scaled
by the gates, and are computed so: with experts this small, taking the points of each expert apart costs more than it
saves (it took twice the time forward and backward, at tiny.en's widths on a CPU). A router that leaves experts out
multiplies them by zero; what it saves is the count of active parameters.

The gates depend on the input, so a mixture cannot be merged into the weights: it is deployed beside them.

Sources: adaptive mixtures of local experts, Jacobs et al. 1991; top-k gates, Shazeer et al. 2017, arXiv 1701.06538; the
load-balancing term and the gate of one expert, Fedus et al. 2021, arXiv 2101.03961 (Switch Transformer); that term of
two experts, Mixtral's code, arXiv 2401.04088; low-rank
experts, with all of them weighed in LoRAMoE, arXiv 2312.09979, and the two largest in MixLoRA, arXiv 2404.15159, whose
initial routers and weight of the term (0.01) are the defaults here.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from core.config import Lora, Mixture
from core.errors import ConfigError, ModelError, Problem
from core.precision import in_own_precision
from core.sums import Sum

ROUTER_DEVIATION = 0.02
"""Standard deviation of a fresh router's weights: gates begin near one over the number of experts."""

SETTINGS_FILE, WEIGHTS_FILE = "mixture.json", "mixture.safetensors"


@dataclass(frozen=True)
class Routing:
    """Where one module's router sends some points; each row is one point.

    Attributes:
        probabilities: Softmax over the experts.
        gates: What each expert's output is multiplied with. All experts: the probabilities. The k largest: those,
            scaled to sum one; the largest alone keeps its probability, because a gate of one would give the router no
            gradient (Switch Transformer).
        dispatch: What each expert has of the point: all experts: the probabilities; the k largest: the whole point
            each, so that it sums to k.
    """

    probabilities: Float[Tensor, "*points experts"]
    gates: Float[Tensor, "*points experts"]
    dispatch: Float[Tensor, "*points experts"]

    def where(self, mask: Bool[Tensor, "*points"]) -> "Routing":
        """Return the routing of the points that a mask keeps, [points, experts]."""
        return Routing(self.probabilities[mask], self.gates[mask], self.dispatch[mask])


class Router(nn.Module):
    """Weighs the experts of one module for each point by itself."""

    def __init__(self, width: int, settings: Mixture) -> None:
        super().__init__()
        self.top_k = settings.top_k
        self.weight = nn.Parameter(ROUTER_DEVIATION * torch.randn(settings.experts, width))

    def forward(self, states: Float[Tensor, "*points width"]) -> Routing:
        """Return the gates of some points, computed in the router's own precision, whatever autocast would have."""
        with in_own_precision(states.device):
            logits = nn.functional.linear(states.to(self.weight.dtype), self.weight)
        probabilities = logits.softmax(dim=-1)
        if self.top_k is None:
            return Routing(probabilities, probabilities, probabilities)
        largest, chosen = probabilities.topk(self.top_k, dim=-1)
        if self.top_k > 1:
            largest = largest / largest.sum(dim=-1, keepdim=True)
        nowhere = torch.zeros_like(probabilities)
        return Routing(
            probabilities,
            nowhere.scatter(-1, chosen, largest),
            nowhere.scatter(-1, chosen, 1.0),
        )


class MixtureLinear(nn.Module):
    """A frozen linear module with experts and a router beside it."""

    def __init__(self, base: nn.Linear, settings: Mixture, *, rank: int, scale: float, dropout: float = 0.0) -> None:
        """Begin as the base alone: every B is zero, as in one adapter.

        Args:
            base: Frozen by the caller.
            settings: Number of experts, and how many of them a point goes to.
            rank: Of each expert.
            scale: What the gated sum is multiplied with: gain, times alpha / rank of the adapter that they replace.
            dropout: On the experts' input, a probability; the router reads the input as it is.
        """
        super().__init__()
        self.base = base
        self.router = Router(base.in_features, settings)
        self.lora_A = nn.Parameter(torch.empty(settings.experts, rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(settings.experts, rank, base.out_features))
        self.dropout = nn.Dropout(dropout)
        self.scale = scale
        for expert in self.lora_A:
            nn.init.kaiming_uniform_(expert, a=5**0.5)

    def forward(self, states: Float[Tensor, "*points inputs"]) -> Float[Tensor, "*points outputs"]:
        """Return the base's output and, beside it, the gated sum of the experts'."""
        gates = self.router(states).gates
        middle = nn.functional.linear(self.dropout(states), self.lora_A.flatten(0, 1))
        gated = middle.unflatten(-1, self.lora_A.shape[:2]) * gates[..., None].to(middle.dtype)
        return self.base(states) + self.scale * (gated.flatten(-2) @ self.lora_B.flatten(0, 1))


def expert_rank(lora: Lora, modules: Sequence[nn.Linear]) -> int:
    """Return the largest rank of the experts at which they and their routers have no more parameters than adapters.

    An expert of rank r on a linear module has r (inputs + outputs) parameters, a router experts * inputs. Where inputs
    and outputs add up to the same over all modules, rank = experts * (r + 1/2) makes both sides equal.

    Args:
        lora: With a mixture; its rank is that of the adapters.
        modules: What is adapted.

    Raises:
        ConfigError: If not even experts of rank 1 fit.
    """
    assert lora.mixture is not None
    experts = lora.mixture.experts
    each = sum(module.in_features + module.out_features for module in modules)
    routers = experts * sum(module.in_features for module in modules)
    rank = (lora.rank * each - routers) // (experts * each)
    if rank < 1:
        smallest = -((experts * each + routers) // -each)
        raise ConfigError(
            "The mixture does not fit:",
            [
                Problem(
                    "lora.mixture.experts",
                    f"{experts} experts of rank 1 and their routers have {experts * each + routers:,} parameters, but "
                    f"adapters of rank {lora.rank} have {lora.rank * each:,}; raise lora.rank to {smallest}, or lower "
                    "experts",
                )
            ],
        )
    return min(rank, *(min(module.in_features, module.out_features) for module in modules))


def add_experts(model: PreTrainedModel, lora: Lora, paths: Sequence[str]) -> PreTrainedModel:
    """Put experts and a router beside the linear modules at some paths, in place; only they are trainable.

    Raises:
        ConfigError: If not even experts of rank 1 have as few parameters as the adapters that they replace.
    """
    assert lora.mixture is not None
    rank = expert_rank(lora, [cast(nn.Linear, model.get_submodule(path)) for path in paths])
    scale = lora.mixture.gain * lora.alpha / lora.rank
    return _mix(model, lora.mixture, paths, rank=rank, scale=scale, dropout=lora.dropout)


def save_experts(model: PreTrainedModel, folder: Path) -> None:
    """Write experts and routers, and what is needed to put them beside a student again."""
    mixed = mixed_modules(model)
    first = next(iter(mixed.values()))
    settings = {
        "modules": list(mixed),
        "experts": first.lora_A.shape[0],
        "top_k": first.router.top_k,
        "rank": first.lora_A.shape[1],
        "scale": first.scale,
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    save_file({name: value.cpu().contiguous() for name, value in trained.items()}, folder / WEIGHTS_FILE)


def load_experts(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put the experts and routers of a folder beside a student's modules, in place.

    Raises:
        ModelError: If they cannot be read, or are not of this student's layers.
    """
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        mixture = Mixture(experts=settings["experts"], top_k=settings["top_k"])
        _mix(model, mixture, settings["modules"], rank=settings["rank"], scale=settings["scale"])
        left = model.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The experts in {folder} cannot be read, or are not of this student ({error}). Put back those that were "
            "trained with these layers."
        ) from error
    wrong = [*left.unexpected_keys, *(name for name in left.missing_keys if ".lora_" in name or ".router." in name)]
    if wrong:
        raise ModelError(
            f"The experts in {folder} are not of this student: {wrong[0][:200]} is of no layer of it, or missing. Put "
            "back those that were trained with these layers."
        )
    return model


def mixed_modules(model: nn.Module) -> dict[str, MixtureLinear]:
    """Return the modules that have experts by their path; none in a model without a mixture."""
    return {path: module for path, module in model.named_modules() if isinstance(module, MixtureLinear)}


def inactive_parameters(model: nn.Module) -> int:
    """Return how many parameters a point does not go through: those of the experts that the routers leave out."""
    total = 0
    for module in mixed_modules(model).values():
        experts = len(module.lora_A)
        left_out = experts - (module.router.top_k or experts)
        total += left_out * (module.lora_A[0].numel() + module.lora_B[0].numel())
    return total


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Routing]]:
    """Keep what every router says during one forward pass, by the path of its module."""
    routings: dict[str, Routing] = {}

    def keeper(path: str):
        def keep(router: nn.Module, inputs: tuple[Tensor, ...], routing: Routing) -> None:
            routings[path] = routing

        return keep

    hooks = [module.router.register_forward_hook(keeper(path)) for path, module in mixed_modules(model).items()]
    try:
        yield routings
    finally:
        for hook in hooks:
            hook.remove()


def of_valid_points(
    routings: Mapping[str, Routing],
    *,
    frame_mask: Bool[Tensor, "batch frames"],
    token_mask: Bool[Tensor, "batch tokens"],
) -> dict[str, Routing]:
    """Return the routing of the points that count: frames of audio, and tokens that predict a reference token.

    Padding and the prompt are routed, too, but no loss ever sees them, and neither may the balance of the experts.

    Args:
        routings: By the path of their module, each [batch, time, experts].
        frame_mask: True where a frame holds audio: for the encoder, and for the keys and values that the decoder's
            cross-attention makes of it.
        token_mask: True where a label counts: for all else in the decoder.
    """
    return {path: each.where(frame_mask if _reads_frames(path) else token_mask) for path, each in routings.items()}


def balance_loss(routing: Routing) -> Float[Tensor, ""]:
    """Return how unevenly one router loads its experts, at least 1 (k, where a point goes to k of them): evenly.

    experts * sum_k f_k P_k, with f_k the share of the points that go to expert k, and P_k the mean of its probability
    (Fedus et al. 2021, arXiv 2101.03961, eq. 4-6). Of points that go to k experts each counts for each of them, as in
    Mixtral's code, so that shares sum to k (there over the points of all layers together, here router by router). Where
    all experts are weighed, both are the mean gate, and the sum is one and the squared coefficient of variation of
    Shazeer et al. 2017 (arXiv 1701.06538, eq. 7).

    Args:
        routing: Of valid points, [points, experts].
    """
    return _balance(_loads([routing]).mean()).squeeze(0)


def mean_balance_loss(routings: Mapping[str, Routing], mean: Callable[[Sum], Tensor] = Sum.mean) -> Float[Tensor, ""]:
    """Return the mean of `balance_loss` over the routers, so that its weight does not depend on their number.

    Args:
        routings: By the path of their module, of valid points.
        mean: Returns the mean over the whole batch, of which these points may be a part.
    """
    alike: dict[tuple[bool, int], list[str]] = {}
    for path, routing in routings.items():
        alike.setdefault((_reads_frames(path), len(routing.dispatch)), []).append(path)
    means: dict[str, Tensor] = {}
    for paths in alike.values():
        means |= zip(paths, mean(_loads([routings[path] for path in paths])), strict=True)
    return _balance(torch.stack([means[path] for path in routings])).mean()


def _loads(routings: Sequence[Routing]) -> Sum:
    """Return how many points go to each expert, and the sum of its probabilities, [routers, 2, experts].

    Args:
        routings: Of equally many points.
    """
    sums = [torch.stack([each.dispatch.sum(dim=0), each.probabilities.sum(dim=0)]) for each in routings]
    return Sum(torch.stack(sums), len(routings[0].dispatch))


def _balance(loads: Float[Tensor, "*routers 2 experts"]) -> Float[Tensor, "*routers"]:
    shares, probabilities = loads.unbind(dim=-2)
    return loads.shape[-1] * (shares * probabilities).sum(dim=-1)


def _mix(
    model: PreTrainedModel, settings: Mixture, paths: Sequence[str], *, rank: int, scale: float, dropout: float = 0.0
) -> PreTrainedModel:
    model.requires_grad_(False)
    for path in paths:
        parent, _, name = path.rpartition(".")
        base = cast(nn.Linear, model.get_submodule(path))
        mixed = MixtureLinear(base, settings, rank=rank, scale=scale, dropout=dropout)
        setattr(model.get_submodule(parent), name, mixed.to(base.weight.device))
    return model.train(model.training)


def _reads_frames(path: str) -> bool:
    return ".encoder." in path or path.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
