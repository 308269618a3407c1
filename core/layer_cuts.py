"""Which layers to cut, and what a cut was beside the others, from a scan of angular distances. No torch here.

A cut is a block of consecutive layers, as in Gromov et al. (2024, arXiv 2403.17887): the block that turns the residual
stream least is the one that the model misses least. A single layer is measured alike (ShortGPT, Men et al. 2024, arXiv
2403.03853, with the cosine itself).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.config import PrunedStudent, Student
from core.store.records import LayerDistance, LayerScan, Side

SIDES: tuple[Side, ...] = ("encoder", "decoder")

CLIPS = 24
"""That are listened to, where nobody says otherwise."""

MEASURE = (
    "angular distance arccos(cos(input, output)) / pi of the residual stream, from what enters the first to what "
    "leaves the last layer of a cut, before the final norm; mean over real frames or tokens, then over clips"
)


@dataclass(frozen=True)
class Cut:
    """A cut that could be made.

    Attributes:
        block: What would go, with its angular distance.
        kept: Layers that stay, as `encoder_layers` or `decoder_layers` of a student has them.
        freeze_below: Of an encoder: the layers below the cut, which teacher and student share; one at least of those
            that stay is left to be trained. None of a decoder.
    """

    block: LayerDistance
    kept: tuple[int, ...]
    freeze_below: int | None

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that would go."""
        return tuple(range(self.block.first, self.block.last + 1))


def sides_cut(student: Student) -> tuple[Side, ...]:
    """Return the sides of which a student names the layers that it keeps of another model."""
    return tuple(side for side in SIDES if isinstance(student, PrunedStudent) and getattr(student, f"{side}_layers"))


def cuts(scan: LayerScan, side: Side, size: int, *, first_layer: bool = False) -> list[Cut]:
    """Return the cuts of so many consecutive layers, the least angular distance first.

    Args:
        scan: What was measured.
        side: Encoder or decoder.
        size: How many layers go.
        first_layer: Whether the first layer may go, too: it makes speech or text into what the others read.
    """
    depth = scan.depth(side)
    blocks = [
        each
        for each in scan.distances
        if each.side == side and each.last - each.first + 1 == size < depth and (each.first > 0 or first_layer)
    ]
    return [_cut(block, depth) for block in sorted(blocks, key=lambda block: block.distance)]


def proposals(scan: LayerScan, side: Side, *, first_layer: bool = False) -> list[Cut]:
    """Return the best cut of one layer, of two, and so on: in the order of their damage, as far as it is foreseen."""
    found = [cuts(scan, side, size, first_layer=first_layer) for size in range(1, scan.depth(side))]
    return sorted((of_size[0] for of_size in found if of_size), key=lambda cut: cut.block.distance)


def layers_cut(scan: LayerScan, student: Mapping[str, Any]) -> dict[Side, tuple[int, ...]]:
    """Return which of the measured layers a pruned student lacks, by side; sides that are whole are left out.

    Args:
        scan: Of the model that it is cut from.
        student: Its settings, as plain dictionaries.
    """
    found: dict[Side, tuple[int, ...]] = {}
    for side in SIDES:
        kept = student.get(f"{side}_layers")
        gone = tuple(layer for layer in range(scan.depth(side)) if layer not in kept) if kept else ()
        if gone:
            found[side] = gone
    return found


def choice_in_words(scan: LayerScan, student: Mapping[str, Any]) -> list[str]:
    """Return for each side that was cut what the cut was beside the others that may go, all but the first layer."""
    return [_in_words(scan, side, gone) for side, gone in layers_cut(scan, student).items()]


def listed(layers: Sequence[int]) -> str:
    """Return layers in words: ``layer 2``, ``layers 1 and 2``, ``layers 1, 2 and 3``."""
    *before, last = map(str, layers)
    return f"layers {', '.join(before)} and {last}" if before else f"layer {last}"


def _in_words(scan: LayerScan, side: Side, gone: tuple[int, ...]) -> str:
    what = f"Cut: {side} {listed(gone)} of 0 to {scan.depth(side) - 1}"
    measured = {(each.first, each.last): each.distance for each in scan.distances if each.side == side}
    possible = cuts(scan, side, len(gone))
    others = [cut for cut in possible if cut.layers != gone]
    if len(gone) != gone[-1] - gone[0] + 1:
        alone = ", ".join(f"{measured[layer, layer]:.2f}" for layer in gone)
        least = (
            f" Of blocks of as many, {listed(others[0].layers)} have the least ({_of(others[0])})." if others else ""
        )
        return f"{what}, not side by side: angular distances {alone}, each alone.{least}"
    own = f"{measured[gone[0], gone[-1]]:.2f}"
    if not others:
        return f"{what}, angular distance {own}."
    if possible[0].layers != gone:
        return (
            f"{what}, angular distance {own}. Of those that may go, {listed(others[0].layers)} "
            f"{'has' if len(gone) == 1 else 'have'} the least ({_of(others[0])})."
        )
    rest = f"others {_of(others[0])} to {_of(others[-1])}" if len(others) > 1 else f"the other one {_of(others[0])}"
    return f"{what}, the least angular distance of those that may go ({own}; {rest})."


def _of(cut: Cut) -> str:
    return f"{cut.block.distance:.2f}"


def _cut(block: LayerDistance, depth: int) -> Cut:
    kept = tuple(layer for layer in range(depth) if not block.first <= layer <= block.last)
    freeze_below = min(block.first, len(kept) - 1) if block.side == "encoder" else None
    return Cut(block, kept, freeze_below)
