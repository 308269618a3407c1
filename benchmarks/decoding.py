"""What transcribing costs beside faster-whisper, which is CTranslate2 in int8: published, and no goal.

Both transcribe the same generated speech with the real tiny.en, greedily, padded to 30 s, features included.
"""

from collections.abc import Callable

import torch
from faster_whisper import WhisperModel

from benchmarks.measuring import Bench, Found
from benchmarks.pair import speech
from core.audio import read_audio
from core.families.whisper import Whisper
from core.weights.load import load_whisper
from core.weights.package import PACKAGES, package_folder

CONTEXT = 30.0
CAP = 90


def measure(bench: Bench) -> Found:
    """Measure each way of transcribing."""
    audio = [read_audio(item.audio_path) for item in speech(bench, 4 if bench.quick else 16)]
    ours = Whisper(load_whisper("openai/whisper-tiny.en"), language="en").to(bench.device)
    folder = str(package_folder(PACKAGES["openai/whisper-tiny.en"]))
    theirs = WhisperModel(folder, device=bench.device.type, compute_type="int8", cpu_threads=1)

    @torch.inference_mode()
    def transcribed() -> None:
        states = ours.encode_rest(ours.encode_start(ours.mel(audio, CONTEXT).to(bench.device), 0), 0)[
            ours.encoder_layers - 1
        ]
        ours.transcribe(ours.cross_attention(states), token_caps=[CAP] * len(audio))

    def by_faster_whisper() -> None:
        for clip in audio:
            segments, _ = theirs.transcribe(
                clip, language="en", beam_size=1, temperature=0.0, without_timestamps=True, max_new_tokens=CAP
            )
            list(segments)

    ways: dict[str, Callable[[], None]] = {
        "transcribing, ours in float32": transcribed,
        "transcribing, faster-whisper in int8": by_faster_whisper,
    }
    return Found(seconds=bench.in_turn(ways, rounds=1 if bench.quick else 5))
