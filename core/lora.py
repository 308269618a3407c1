"""Adapters: where they go, what is trainable, what is merged and saved.

A low-rank adapter adds B A x * alpha / rank to the output of a frozen linear layer (Hu et al. 2021, arXiv 2106.09685).
B starts at zero, so training starts at the student as it is. PEFT does the wrapping, and its files are PEFT's own, so
that any PEFT program reads them; which modules are adapted is decided here, by full path, because PEFT has no defaults
for Whisper and a name that matches elsewhere would adapt the wrong layers silently. A mixture of experts (core.mixture)
stands at the same places.
"""

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from core.config import Lora
from core.errors import ConfigError, GradientPathError, ModelError, Problem
from core.mixture import SETTINGS_FILE, add_experts, load_experts
from core.seeds import stream_seed

# PEFT 0.21 asks transformers for an attribute by its old name; whoever reads a log can do nothing about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def adapted_modules(model: nn.Module, lora: Lora, *, freeze_below: int) -> list[str]:
    """Return the full paths of the linear modules that get an adapter, in model order.

    Args:
        model: A Whisper model without adapters (it may live on the meta device).
        lora: Which names, by side.
        freeze_below: Encoder layers below this number get none.

    Raises:
        ConfigError: If a name matches no linear module, with the names that would.
    """
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: list[str] = []
    problems: list[Problem] = []
    for side, targets in (("encoder", lora.encoder_targets), ("decoder", lora.decoder_targets)):
        first = freeze_below if side == "encoder" else 0
        prefix = f"model.{side}.layers."
        within = [
            path for path in linear if path.startswith(prefix) and int(path.removeprefix(prefix).split(".")[0]) >= first
        ]
        if targets and not within:
            where = "freeze_below" if side == "encoder" else f"lora.{side}_targets"
            problems.append(Problem(where, f"no {side} layer is left to adapt; lower it, or empty lora.{side}_targets"))
            continue
        for target in targets:
            matches = [path for path in within if path.endswith("." + target)]
            if not matches:
                names = sorted({path.removeprefix(prefix).split(".", 1)[1] for path in within})
                hint = f"choose from {', '.join(names)}"
                problems.append(Problem(f"lora.{side}_targets", f"'{target}' matches no linear module; {hint}"))
            found.extend(matches)
    if problems:
        raise ConfigError("LoRA targets that match nothing:", problems)
    chosen = set(found)
    return [path for path in linear if path in chosen]


def rank_within(lora: Lora, parameters: int, *, modules: Sequence[nn.Linear]) -> Lora:
    """Return the settings with the largest rank whose adapters have at most so many parameters.

    An adapter of rank r on a linear module has r (inputs + outputs) parameters. alpha / rank stays as it is.

    Raises:
        ConfigError: If not even rank 1 fits.
    """
    each = sum(module.in_features + module.out_features for module in modules)
    rank = parameters // each
    if rank < 1:
        raise ConfigError(
            "The adapters do not fit:",
            [
                Problem(
                    "lora.budget",
                    f"leaves {max(0, parameters):,} parameters for adapters, but rank 1 takes {each:,}; raise it, "
                    "adapt fewer modules, or choose a smaller projection",
                )
            ],
        )
    rank = min(rank, *(min(module.in_features, module.out_features) for module in modules))
    return lora.model_copy(update={"rank": rank, "alpha": max(1, round(lora.alpha * rank / lora.rank))})


def add_adapters(student: PreTrainedModel, lora: Lora, *, freeze_below: int, seed: int) -> PeftModel | PreTrainedModel:
    """Return the student with fresh adapters, or experts in their places, which alone are trainable.

    The frozen weights stay the student's own.

    Raises:
        ConfigError: If a target matches nothing, or a mixture does not fit.
    """
    modules = adapted_modules(student, lora, freeze_below=freeze_below)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "adapters"))
        if lora.mixture is not None:
            return add_experts(with_shared_weights(student), lora, modules)
        return get_peft_model(
            with_shared_weights(student),
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules),
        )


def with_shared_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return modules of their own over the same weights: who changes a module changes no other copy's."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by path."""
    return {path: parameter for path, parameter in model.named_parameters() if parameter.requires_grad}


def idle_adapters(model: nn.Module) -> set[str]:
    """Return, after a backward pass, the paths of the modules whose adapters got no gradient.

    A starts with no gradient because B is zero; B must have one. Of a mixture one expert with a gradient is enough: to
    which ones the points of a batch go is the router's business, and told by their load.
    """
    return {
        path.replace("base_model.model.", "").split(".lora_B")[0]
        for path, parameter in adapter_parameters(model).items()
        if "lora_B" in path and (parameter.grad is None or not bool(parameter.grad.any()))
    }


def require_none_idle(idle: set[str]) -> None:
    """Check that every adapter learns.

    Raises:
        GradientPathError: Naming the adapters without gradient.
    """
    if idle:
        shown = ", ".join(sorted(idle)[:3])
        raise GradientPathError(
            f"{len(idle)} adapters get no gradient from this method ({shown}{', ...' if len(idle) > 3 else ''}), so "
            "they would be deployed untrained. Remove their targets from lora, or add a loss that reaches them."
        )


def has_experts(folder: Path) -> bool:
    """Return whether a folder holds a mixture of experts, which stay beside the weights."""
    return (folder / SETTINGS_FILE).exists()


def deployed(student: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return a copy of the student with a folder's adapters merged into its weights, or its experts beside them.

    Raises:
        ModelError: If the adapters cannot be read, or are not of this student's layers.
    """
    if has_experts(folder):
        return load_experts(copy.deepcopy(student), folder)
    require_fitting(student, folder)
    adapted = PeftModel.from_pretrained(copy.deepcopy(student), str(folder))
    return adapted.merge_and_unload()


def require_fitting(student: nn.Module, folder: Path) -> None:
    """Make sure that a folder's adapters and the student's modules pair up: PEFT leaves out what does not, silently.

    Raises:
        ModelError: With what is left over, what is missing, what has another shape, and what is no number.
    """
    try:
        said = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"The adapters in {folder} cannot be read ({error}). Copy the folder again.") from error
    modules = {path: module for path, module in student.named_modules() if isinstance(module, nn.Linear)}
    found: dict[str, dict[str, torch.Tensor]] = {}
    left_over: list[str] = []
    for name, tensor in tensors.items():
        path, _, factor = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        if path in modules and factor in ("lora_A", "lora_B"):
            found.setdefault(path, {})[factor] = tensor
        else:
            left_over.append(name)
    differ = [path for path, factors in found.items() if not _fits(modules[path], factors)]
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    # We name modules by their whole path; other programs by the ends of them, which as many modules may match as do.
    whole = [path for path in said if path.startswith("model.")] if isinstance(said, list) else []
    kinds = {
        "of no layer of this student": left_over,
        "without weights": [path for path in whole if path in modules and path not in found],
        "of another shape": differ,
        "with values that are not finite": broken,
    }
    problems = [f"  - {what}: {_first(names)}" for what, names in kinds.items() if names]
    if problems or not found:
        raise ModelError(
            "\n".join(
                [
                    f"The adapters in {folder} are not of this student ({len(found)} of its modules have some):",
                    *problems,
                    "Put back the adapters that were trained with these layers, or the settings that the run had.",
                ]
            )
        )


def _fits(module: nn.Linear, factors: Mapping[str, torch.Tensor]) -> bool:
    shapes = [tuple(factors[name].shape) if name in factors else () for name in ("lora_A", "lora_B")]
    rank = shapes[0][0] if shapes[0] else 0
    return shapes == [(rank, module.in_features), (module.out_features, rank)]


def _first(names: Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(name[:200] for name in names[:3]) + (f" and {more} more" if more > 0 else "")


def count_parameters(*modules: nn.Module, only_trainable: bool = False) -> int:
    """Return the number of parameters, each storage once (tied embeddings count once)."""
    seen: dict[int, int] = {}
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad or not only_trainable:
                seen[id(parameter)] = parameter.numel()
    return sum(seen.values())
