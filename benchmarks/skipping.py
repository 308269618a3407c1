"""Whether the head's gradient would gain by skipping columns of negligible gradient, as Cut Cross-Entropy does.

Wijmans et al. 2024, arXiv 2411.09009, leave out blocks of tokens and vocabulary in which no gradient exceeds 2^-12, the
rounding of bfloat16. Here the real tiny.en without one encoder layer learns from the whole; what could be left out, and
what that would change, is counted on generated speech.
"""

import torch
from torch import Tensor

from benchmarks.kept import logits_of
from benchmarks.measuring import RESULTS, Bench, Found
from benchmarks.pair import speech
from core.config import PrunedStudent
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.fused_head import COLUMNS_AT_ONCE, ROWS_AT_ONCE
from core.weights.load import load_whisper

UTTERANCES, SOFT_WEIGHT = 16, 0.8
LIMITS = {"2^-12": 2.0**-12, "1e-6": 1e-6, "1e-8": 1e-8}


@torch.inference_mode()
def measure(bench: Bench) -> Found:
    """Count the blocks, and write the table."""
    teacher = Whisper(load_whisper("openai/whisper-tiny.en"), language="en").to(bench.device)
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3))).to(bench.device)
    utterances = speech(bench, UTTERANCES)
    theirs, mine = (torch.cat(logits_of(model, utterances))[:ROWS_AT_ONCE] for model in (teacher, student))
    texts = [token for item in utterances for token in (*teacher.tokens(item.text), teacher.end_token)]
    targets = torch.tensor(texts[:ROWS_AT_ONCE], device=mine.device)
    lines = [
        f"Blocks of {len(mine)} tokens and {COLUMNS_AT_ONCE} columns of the head in which every gradient is below a "
        "limit, and how far the gradient of the logits is from the whole one, of its length, when all that is below it "
        "is left out. The real tiny.en teaches itself without its third encoder layer.",
        "",
        "| losses | below | blocks | entries | distance |",
        "|---|---|---|---|---|",
    ]
    for name, slopes in _slopes(mine, theirs, targets).items():
        for limit, value in LIMITS.items():
            small = slopes.abs() < value
            whole = small[:, : slopes.shape[1] // COLUMNS_AT_ONCE * COLUMNS_AT_ONCE]
            blocks = whole.unflatten(1, (-1, COLUMNS_AT_ONCE)).all(dim=2).all(dim=0).float().mean()
            distance = (slopes * small).norm() / slopes.norm()
            entries = small.float().mean()
            lines.append(f"| {name} | {limit} | {float(blocks):.1%} | {float(entries):.1%} | {float(distance):.0e} |")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "skipping.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Found()


def _slopes(mine: Tensor, theirs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the gradients of the logits, [tokens, vocabulary], by what is learnt."""
    transcripts = mine.softmax(dim=-1)
    transcripts.scatter_add_(1, targets[:, None], torch.full_like(transcripts[:, :1], -1))
    found = {"cross-entropy": transcripts}
    for temperature in (1.0, 2.0):
        soft = temperature * ((mine / temperature).softmax(dim=-1) - (theirs / temperature).softmax(dim=-1))
        found[f"cross-entropy, soft labels at temperature {temperature:g}"] = transcripts + SOFT_WEIGHT * soft
    return found
