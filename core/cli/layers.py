"""Which layers a model misses least: angular distances from one forward pass, and cuts that they propose."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.cli.places import DATABASE, RUNS, Database, Json, Runs, open_studio, read_runs
from core.cli.tables import output
from core.cli.text import Text
from core.cli.watching import counted, stages
from core.config import Manifest, preset_names
from core.errors import DataError
from core.layer_cuts import CLIPS, MEASURE, SIDES, Cut, cuts, listed, proposals
from core.paths import expanded
from core.sources import Utterance
from core.store.records import LayerScan, Side

if TYPE_CHECKING:
    from core.layer_importance import Damage

Damages = dict[tuple[Side, tuple[int, ...]], "Damage"]

SPEECH = "quickstart"
"""Preset whose training set is listened to where nobody names other speech."""

ROWS_PER_CLIP = 2
"""Rows of a manifest that are read for each clip: some may be too long, or without a transcript."""


def layers(
    model: Annotated[str, typer.Argument(help="A released Whisper, a folder, or run:ID, as a teacher is named.")],
    data: Annotated[
        str, typer.Option(help="Manifest of speech with transcripts, or a preset, whose training set is taken.")
    ] = SPEECH,
    clips: Annotated[int, typer.Option(min=2, help="Clips to listen to, evenly spread over the speech.")] = CLIPS,
    context: Annotated[
        float, typer.Option(min=1, max=30, help="Seconds that the encoder sees; longer clips are left out.")
    ] = 15.0,
    drop: Annotated[
        bool,
        typer.Option(
            "--drop",
            help="Also leave out each layer and each proposed cut: tokens that stay the same, and KL per token, "
            "teacher-forced, nothing healed.",
        ),
    ] = False,
    first_layer: Annotated[bool, typer.Option("--first-layer", help="Propose cuts of the first layer, too.")] = False,
    language: Annotated[str, typer.Option(help="Of the speech, as Whisper writes it.")] = "en",
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say how much each layer of a model does, and which to cut: one forward pass over some clips, no training."""
    with open_studio(db, runs, missing="lend") as studio, stages() as show:
        # Imported late: the other commands need no torch.
        import torch

        from core.layer_importance import chosen_clips, damage_of, scan_layers
        from core.teachers import Finder

        show("Loading the model", 0, 0)
        found = Finder(studio.store, studio.runs_folder)(model, None, language)
        found.model.requires_grad_(False).eval()
        found.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        speech = _speech(data, clips, studio.runs_folder / "data", lambda *far: show("Preparing the speech", *far))
        taken = chosen_clips(speech, clips, audio_context=context)
        advance = _counter("Listening", len(taken), show)
        scan = scan_layers(found, model, taken, audio_context=context, advance=advance)
        damages: list[Damage] = []
        if drop:
            if not any(item.text for item in taken):
                raise DataError("--drop needs transcripts, and these clips have none. Name other speech with --data.")
            dropped = _dropped(scan, first_layer=first_layer)
            advance = _counter("Leaving out layers", len(taken), show)
            damages = damage_of(found, taken, dropped, audio_context=context, advance=advance)
    if as_json:
        print(json.dumps(layers_json(scan, damages, first_layer=first_layer), indent=2, allow_nan=False))
    else:
        print_layers(scan, damages, output(), first_layer=first_layer, asked=clips)


def _speech(data: str, clips: int, folder: Path, tell: Callable[[int, int], None]) -> Sequence[Utterance]:
    """Return utterances to choose from: of a manifest, or of the training set of a preset.

    Raises:
        DataError: With every row that cannot be used.
    """
    from core.sources import is_ready, prepare
    from core.sources.manifest import read_manifest

    if data not in preset_names():
        return read_manifest(expanded(data), transcripts="may be empty", most=ROWS_PER_CLIP * clips)
    source = read_runs(data)[1][0].source
    if not isinstance(source, Manifest) and not is_ready(source, folder):
        # A few clips are made much faster than the whole set, and sound alike.
        source = source.model_copy(update={"train": min(clips, source.train), "development": 1, "test": 1})
    return prepare(source, folder, tell).train


def _counter(stage: str, total: int, show: Callable[[str, int, int], None]) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        show(stage, done, total)

    show(stage, 0, total)
    return advance


def _dropped(scan: LayerScan, *, first_layer: bool) -> list[tuple[Side, tuple[int, ...]]]:
    """Return what is left out: each layer by itself, and each proposed cut."""
    found: dict[tuple[Side, tuple[int, ...]], None] = {}
    for side in SIDES:
        found |= {(side, (layer,)): None for layer in range(scan.depth(side))}
        found |= {(side, cut.layers): None for cut in proposals(scan, side, first_layer=first_layer)}
    return list(found)


def layers_json(scan: LayerScan, damages: Sequence["Damage"], *, first_layer: bool) -> dict[str, Any]:
    """Return a scan and its proposals for programs; distances as fractions of pi, KL in nats per token."""
    return {
        "measure": MEASURE,
        **{name: value for name, value in asdict(scan).items() if name != "distances"},
        "distances": [asdict(each) for each in scan.distances],
        "proposals": {
            side: [_cut_json(cut) for cut in proposals(scan, side, first_layer=first_layer)]
            for side in SIDES
            if scan.depth(side)
        },
        "dropped": [asdict(each) for each in damages],
    }


def _cut_json(cut: Cut) -> dict[str, Any]:
    return {
        "cut": list(cut.layers),
        "distance": cut.block.distance,
        "standard_error": cut.block.standard_error,
        f"{cut.block.side}_layers": list(cut.kept),
        **({} if cut.freeze_below is None else {"freeze_below": cut.freeze_below}),
    }


def print_layers(
    scan: LayerScan, damages: Sequence["Damage"], console: Console, *, first_layer: bool, asked: int
) -> None:
    """Print distances of single layers, proposals, and both in words."""
    damage: Damages = {(each.side, each.layers): each for each in damages}
    for side in SIDES:
        if scan.depth(side):
            console.print(_single(scan, side, damage))
            console.print(_proposed(scan, side, damage, first_layer=first_layer))
            for line in _words(scan, side, damage, first_layer=first_layer):
                console.print(Text(line))
    if not scan.depth("decoder"):
        console.print(Text("The clips have no transcripts, so the decoder was not measured."))
    fewer = f" ({asked} were asked for)" if scan.clips < asked else ""
    console.print(
        Text(
            f"{counted(scan.clips, 'clip')}{fewer}, {scan.audio_seconds:.0f} s of speech, context "
            f"{scan.audio_context:g} s, measured in {scan.seconds:.1f} s. Measure: {MEASURE}; ± is its standard error "
            "over clips. Sources: arXiv 2403.03853, 2403.17887.",
            style="dim",
        )
    )


def _single(scan: LayerScan, side: Side, damage: Damages) -> Table:
    shown = Table(title=Text(f"{scan.model}: {side} layers", style="bold"), title_justify="left")
    for column in ("Layer", "angular distance", "±", *(_MEASURED if damage else ())):
        shown.add_column(column, justify="right")
    for each in scan.distances:
        if each.side == side and each.first == each.last:
            cells = _damage(damage, side, (each.first,))
            shown.add_row(str(each.first), f"{each.distance:.3f}", f"{each.standard_error:.3f}", *cells)
    return shown


def _proposed(scan: LayerScan, side: Side, damage: Damages, *, first_layer: bool) -> Table:
    shown = Table(title=Text(f"Proposed cuts, {side}", style="bold"), title_justify="left")
    settings = (f"{side}_layers", *(("freeze_below",) if side == "encoder" else ()))
    for column in ("Cut", *settings, "angular distance", "±", *(_MEASURED if damage else ())):
        shown.add_column(column, justify="left" if column == "Cut" else "right")
    for cut in proposals(scan, side, first_layer=first_layer):
        frozen = () if cut.freeze_below is None else (str(cut.freeze_below),)
        numbers = f"{cut.block.distance:.3f}", f"{cut.block.standard_error:.3f}"
        cells = _damage(damage, side, cut.layers)
        shown.add_row(listed(cut.layers), Text(str(list(cut.kept))), *frozen, *numbers, *cells)
    return shown


_MEASURED = ("tokens that stay", "KL per token")


def _damage(damage: Damages, side: Side, layers: tuple[int, ...]) -> tuple[str, ...]:
    found = damage.get((side, layers))
    return (f"{100 * found.agreement:.0f} %", f"{found.kl:.2f}") if found else ()


def _words(scan: LayerScan, side: Side, damage: Damages, *, first_layer: bool) -> Iterator[str]:
    """Yield the proposal of one layer in words, and where what was measured puts another one first."""
    single = cuts(scan, side, 1, first_layer=first_layer)
    if not single:
        yield f"Nothing to propose: the {side} has one layer."
        return
    best = single[0]
    beside = f", the next one {single[1].block.distance:.2f}" if len(single) > 1 else ""
    what = f"{side}_layers: {list(best.kept)}"
    frozen = "" if best.freeze_below is None else f" and freeze_below: {best.freeze_below}"
    first = "" if first_layer else " The first layer is not proposed (--first-layer)."
    yield (
        f"To cut one {side} layer, cut {listed(best.layers)} (angular distance {best.block.distance:.2f}{beside}): "
        f"{what}{frozen}.{first}"
    )
    if damage:
        least = min(single, key=lambda cut: damage[side, cut.layers].kl)
        if least is not best:
            yield (
                f"Left out and measured, {listed(least.layers)} does the least damage: KL "
                f"{damage[side, least.layers].kl:.2f} per token, {listed(best.layers)} "
                f"{damage[side, best.layers].kl:.2f}. Healing may change that order."
            )
