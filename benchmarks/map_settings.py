"""What a map's settings cost and keep: python -m benchmarks.map_settings

Maps of states that wander as speech does, and of frames of the real tiny.en (its last encoder layer beside the one
below), with as many random points for each drawn one as UMAP takes by default, and with fewer.
"""

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.measuring import Bench
from benchmarks.pair import speech
from benchmarks.wandering import states
from core.alignment.maps import Map, joint_map
from core.audio import read_audio
from core.families.whisper import Whisper, frame_count
from core.weights.load import load_whisper

STRANGERS = (5, 4, 3, 2)
UTTERANCES, CONTEXT = 48, 10.0
Both = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Measure and print a table."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(limits=1, user_api="blas"):
        measured = {
            "wandering": states(2_500),
            "wandering, many": states(10_000),
            "frames of tiny.en": frames(Bench(Path(folder), False, torch.device("cpu"))),
        }
        joint_map(student=measured["wandering"][0], teacher=measured["wandering"][1], seed=0)
        print("| states | random points | CPU s | trustworthiness | neighbours kept |")
        print("|---|---|---|---|---|")
        for name, both in measured.items():
            for strangers, found, seconds in drawn(*both):
                about = f"{name}, {2 * len(both[0]):,}"
                trust = f"{found.trustworthiness:.3f}"
                print(f"| {about} | {strangers} | {seconds:.1f} | {trust} | {found.kept:.1%} |", flush=True)


def drawn(student: np.ndarray, teacher: np.ndarray) -> Iterator[tuple[int, Map, float]]:
    """Yield a map of the states for each number of random points, with the CPU seconds that it took."""
    for strangers in STRANGERS:
        began = time.process_time()
        found = joint_map(student=student, teacher=teacher, seed=0, strangers=strangers)
        yield strangers, found, time.process_time() - began


@torch.inference_mode()
def frames(bench: Bench) -> Both:
    """Return states of generated speech, frame by frame, centred, of two layers of the real tiny.en."""
    model = Whisper(load_whisper("openai/whisper-tiny.en"), language="en")
    below, last = [], []
    for item in speech(bench, UTTERANCES):
        heard = frame_count(item.duration)
        found = model.encode_rest(model.encode_start(model.mel([read_audio(item.audio_path)], CONTEXT), 0), 0)
        for kept, layer in ((below, model.encoder_layers - 2), (last, model.encoder_layers - 1)):
            kept.append(found[layer][0, :heard].numpy())
    both = [np.concatenate(each) for each in (below, last)]
    return both[0] - both[0].mean(axis=0), both[1] - both[1].mean(axis=0)


if __name__ == "__main__":
    main()
