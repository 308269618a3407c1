"""Speech that cannot be heard, learnt or counted is named before a run starts."""

import copy
import dataclasses
from pathlib import Path

import pytest

from core.config import Evaluation
from core.errors import ConfigError, DataError
from core.evaluation import token_cap
from core.families.whisper import Whisper
from core.normalisers import normaliser_of
from core.sources import Utterance
from core.speech_checks import cut_references, longest_text, require_fits, require_readable
from tests.engine import random_whisper


@pytest.fixture(scope="module")
def student() -> Whisper:
    return random_whisper()


def clip(name: str, text: str, seconds: float = 1.0) -> Utterance:
    return Utterance(id=name, audio_path=Path(f"{name}.flac"), text=text, speaker=None, duration=seconds)


def test_clips_longer_than_the_context_are_named() -> None:
    clips = [clip("a", "a", 4.0), clip("b", "b", 9.0)]
    require_fits(clips, audio_context=9.0, field="training.audio_context")
    with pytest.raises(ConfigError, match=r"1 clips .* b\.flac"):
        require_fits(clips, audio_context=8.0, field="training.audio_context")


def test_every_transcript_that_cannot_be_used_is_named(student: Whisper) -> None:
    fine, long, noise, silent = (
        clip("fine", "one two"),
        clip("long", "word " * 600),
        clip("noise", "[laughter]"),
        clip("silent", ""),
    )
    require_readable([fine, noise], [fine, silent], student=student, normaliser=normaliser_of())
    with pytest.raises(DataError, match="cannot be used") as caught:
        require_readable([fine, long, noise], [fine, noise, silent], student=student, normaliser=normaliser_of())
    assert [problem.where for problem in caught.value.problems] == ["long", "noise"]


def test_references_that_decoding_would_cut_are_counted_with_the_setting_that_lets_them_be_written(
    student: Whisper,
) -> None:
    telugu = clip("telugu", "నేను ఈ రోజు ఉదయం మార్కెట్\u200cకు వెళ్లి పండ్లు కొన్నాను", 4.1)
    digits, slow, silent = (
        clip("digits", "0481 " * 40, 5.0),
        clip("slow", "one two three", 2.0),
        clip("silent", "", 3.0),
    )
    settings = Evaluation()
    assert cut_references([slow, silent], name="test", settings=settings, student=student) == []
    (problem,) = cut_references([telugu, slow, digits, silent], name="test", settings=settings, student=student)
    assert problem.where == "evaluation.tokens_per_second"
    assert "8 cuts 2 of 4 references of the test set" in problem.message
    value = float(problem.message.rpartition("set it to ")[2])
    enough = Evaluation(tokens_per_second=value)
    assert cut_references([telugu, slow, digits], name="test", settings=enough, student=student) == []
    assert all(token_cap(enough, each.duration) >= len(student.tokens(each.text)) for each in (telugu, digits))
    less = Evaluation(tokens_per_second=value - 0.2)
    assert cut_references([telugu, slow, digits], name="test", settings=less, student=student)


def test_a_text_that_no_setting_lets_be_written_is_to_be_corrected(student: Whisper) -> None:
    (problem,) = cut_references(
        [clip("wrong", "word " * 200, 0.5)], name="test", settings=Evaluation(), student=student
    )
    assert "correct or remove 'wrong'" in problem.message


def test_texts_that_the_decoder_cannot_hold_are_another_mistake(student: Whisper) -> None:
    longer = clip("long", "word " * (longest_text(student) + 1), 20.0)
    assert cut_references([longer], name="test", settings=Evaluation(), student=student) == []


def test_a_name_that_the_tokenizer_takes_for_a_control_token_is_a_mistake_with_its_row() -> None:
    model = random_whisper()
    tokenizer = copy.deepcopy(model.loaded.tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": ["[hes]"]})
    tokenizer.add_tokens(["kubernetes"])
    model.loaded = dataclasses.replace(model.loaded, tokenizer=tokenizer)
    assert {"<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "[hes]"} <= set(model.control_tokens.values())

    def said(text: str, where: str = "") -> Utterance:
        return Utterance("clip", Path("a.wav"), text, None, 1.0, where)

    fine = [said("we run kubernetes"), said("a [hesitation]"), said("")]
    require_readable(fine, [], student=model, normaliser=normaliser_of())
    wrong = [said("well [hes] yes", "train.jsonl:3"), said("one<|endoftext|> two")]
    with pytest.raises(DataError) as caught:
        require_readable([*fine, *wrong], [], student=model, normaliser=normaliser_of())
    assert [str(problem) for problem in caught.value.problems] == [
        f"{where}: its transcript holds {token}, a control token that the model takes as such; remove it"
        for where, token in (("train.jsonl:3", "[hes]"), ("clip", "<|endoftext|>"))
    ]
