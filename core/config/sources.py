"""Settings of every data source. Source ``x`` is read by ``core/sources/x.py``."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from core.config.base import Settings

Noise = Literal["coloured", "white", "babble"]
Condition = Literal["room", "telephone", "noise", "speed"]

VOICE_CLIPS = {"train": 480, "development": 60, "test": 100}
"""How many clips of the voices there are in each set."""


class GeneratedSpeech(Settings):
    """English sentences that the project brings, spoken by hibari-tts, with noise. For demonstrations and tests."""

    TEST_SET: ClassVar[str] = "generated voice"
    """What its test set is called in tables."""

    kind: Literal["generated"] = "generated"
    train: int = Field(default=240, ge=1, le=240, description="Sentences for training.")
    development: int = Field(default=40, ge=1, le=40, description="Sentences that choose the checkpoint.")
    test: int = Field(default=100, ge=1, le=100, description="Sentences that are read once, at the end.")
    noises: tuple[Noise, ...] = Field(
        default=("coloured",),
        min_length=1,
        description=(
            "Kinds of noise; each clip has one of them, drawn at random. coloured: between pink and brown; white: all "
            "frequencies alike; babble: voices that say nothing (the clip's own, backwards, several times over)."
        ),
    )
    domain: Literal["all", "outdoors", "indoors"] = Field(
        default="all",
        description="Which of the sentences. outdoors: of nature, weather, farms and the sea; indoors: all others.",
    )
    signal_to_noise: float = Field(default=3.0, ge=-10, le=60, description="Speech to noise power ratio, in dB.")
    slowest: float = Field(
        default=0.85, ge=0.5, le=2.0, description="Lowest speaking rate, as a factor of the voice's own."
    )
    fastest: float = Field(
        default=1.25, ge=0.5, le=2.0, description="Highest speaking rate, as a factor of the voice's own."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of voice, rate and noise.")

    @model_validator(mode="after")
    def _rates_in_order(self) -> "GeneratedSpeech":
        if self.slowest > self.fastest:
            raise ValueError("slowest is above fastest: swap them")
        return self


class VoiceSpeech(Settings):
    """English sentences of the project by 28 Kokoro voices: 20 for training, 4 for development, 4 for test."""

    TEST_SET: ClassVar[str] = "unseen voices"

    kind: Literal["voices"] = "voices"
    train: int = Field(
        default=VOICE_CLIPS["train"],
        ge=1,
        le=VOICE_CLIPS["train"],
        description="Clips for training, a sentence each; 20 voices take turns.",
    )
    development: int = Field(
        default=VOICE_CLIPS["development"],
        ge=1,
        le=VOICE_CLIPS["development"],
        description=(
            "Clips that choose the checkpoint, by 4 other voices. Every second one is heard in conditions of all "
            "kinds, each with probability 0.5, the others are clean: always the same clips, whatever training hears."
        ),
    )
    test: int = Field(
        default=VOICE_CLIPS["test"],
        ge=1,
        le=VOICE_CLIPS["test"],
        description="Clips that are read once, at the end, by 4 further voices. They are clean.",
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description=(
            "Which recording conditions training clips are heard in; none: all are clean. room: reverberation of 0.15 "
            "to 0.6 s, direct sound 0 to 12 dB above it; telephone: 300 to 3,400 Hz, with or without mu-law; noise: "
            "coloured, white or babble; speed: 0.9 to 1.12 times as fast, and as high. Those of the development and "
            "test clips do not depend on this."
        ),
    )
    share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability with which each of the conditions applies to a training clip, independently.",
    )
    lowest_signal_to_noise: float = Field(
        default=5.0, ge=-10, le=60, description="Lowest speech to noise power ratio of noise in training, in dB."
    )
    highest_signal_to_noise: float = Field(
        default=25.0, ge=-10, le=60, description="Highest speech to noise power ratio of noise in training, in dB."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the conditions in training.")

    @model_validator(mode="after")
    def _ratios_in_order(self) -> "VoiceSpeech":
        if self.lowest_signal_to_noise > self.highest_signal_to_noise:
            raise ValueError("lowest_signal_to_noise is above highest_signal_to_noise: swap them")
        return self


class Manifest(Settings):
    """Your own audio: NeMo JSON-lines manifests, one object a line with audio_filepath, text and optionally speaker."""

    TEST_SET: ClassVar[str] = ""
    """By the name of its file."""

    kind: Literal["manifest"] = "manifest"
    train: str = Field(min_length=1, description="Path of the training manifest.")
    development: str = Field(min_length=1, description="Path of the manifest that chooses the checkpoint.")
    test: str = Field(min_length=1, description="Path of the manifest that is read once, at the end.")
    longest_seconds: float = Field(
        default=30.0, gt=0, le=30, description="Clips longer than this, in seconds, are an error (Whisper hears 30 s)."
    )
    transcripts: bool = Field(
        default=True,
        description=(
            "Whether every training clip has a transcript. false: rows without one are taken too, for methods that "
            "learn from the teacher's transcripts or from encoder states alone."
        ),
    )


Source = Annotated[GeneratedSpeech | VoiceSpeech | Manifest, Field(discriminator="kind")]

SOURCES: tuple[type[Settings], ...] = get_args(get_args(Source)[0])
