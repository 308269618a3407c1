"""Which normaliser runs: by language, by name, and under the name that is stored."""

from importlib.metadata import version

import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from core.normalisers import KINDS, normaliser_of, normaliser_stamped, note_on
from core.wer import word_errors

LEADERBOARD = [
    # Of the leaderboard's own code at its state of August 2026.
    ("the king's men", "the king s men"),
    ("It's John's e-mail.", "it is john s email"),
    ("B B C at 5 G", "bbc at 5g"),
    ("He'd been gone, hasn't he?", "he had been gone has not he"),
    ("$1 and 1% of one percent", "one and one of one"),
    ("5 - 3 is 2", "53 is 2"),
    ("Ah, the colour of Stephen's hum", "the color of steven s"),
    ("all right, wi-fi et cetera", "alright wifi etc"),
    ("kinda at 0869 o'clock", "kinda at 8690 clock"),
    ("two and a half million dollars", "$2500000"),
    ("Don’t worry", "don t worry"),
]


@pytest.mark.parametrize(("text", "words"), LEADERBOARD)
def test_the_leaderboard_counts_these_words(text: str, words: str) -> None:
    assert normaliser_of("open-asr-leaderboard")(text) == words


def test_whispers_normaliser_runs_as_it_was_published() -> None:
    text = "The king's colour is $1, or 0869."
    assert normaliser_of("whisper")(text) == EnglishTextNormalizer()(text).strip()
    assert not normaliser_of("whisper").joins


@pytest.mark.parametrize(
    ("language", "reference", "hypothesis", "errors", "words"),
    [
        ("hi", "आज सुबह मैं अपने दोस्त के साथ बाज़ार गया", "आज सुबह मैं अपने दोस्त के साथ बाज़ार गई", 1, 9),
        ("hi", "नमस्ते दुनिया", "नमस्ते दुनया", 1, 2),
        ("hi", "ज\u093cमीन १२ बजे।", "\u095bमीन 12 बजे", 0, 3),
        ("te", "ఉదయం మార్కెట్", "ఉదయం మార్కెట", 1, 2),
        ("te", "మార్కెట్\u200cకు", "మార్కెట్కు", 0, 1),
        ("ta", "தமிழ் மொழி", "தமிழ் மொழ", 1, 2),
        ("bn", "বাংলা ভাষা", "বাংলা ভাষ", 1, 2),
        ("ar", "السَّلام عليكم", "السَّلام عليكم!", 0, 2),
        ("ar", "العـــربية", "العربية", 0, 1),
        ("fr", "L’été, là-bas", "l'e\u0301te\u0301 là bas", 0, 4),
        ("fr", "où", "ou", 1, 1),
        ("vi", "tiếng Việt", "tiêng Việt", 1, 2),
        ("uk", "м’який", "м'який", 0, 2),
        ("tr", "IŞIK İstanbul", "ışık istanbul", 0, 2),
        ("ko", "안녕하세요 여러분", "안녕하세요 여러분!", 0, 2),
        ("th", "สวัสดีครับ", "สวัสดีคับ", 2, 7),
        ("ja", "これは、テストです", "これはテストです", 0, 8),
        ("zh", "今天天气很好。", "今天 天气 很好", 0, 6),
    ],
)
def test_marks_are_kept_in_other_languages(
    language: str, reference: str, hypothesis: str, errors: int, words: int
) -> None:
    counted = word_errors(reference, hypothesis, normaliser_of("auto", language))
    assert (counted.errors, counted.words) == (errors, words)


def test_the_name_says_which_normaliser_ran_in_which_version() -> None:
    names = [normaliser_of(kind, language).name for kind in KINDS[1:] for language in ("en", "hi", "zh", "tr")]
    assert all(version("whisper-normalizer") in name for name in names)
    # English ones are one each; the basic one tells its kinds apart.
    assert len(set(names)) == 6
    assert "characters" in normaliser_of("auto", "ja").name
    assert normaliser_of("auto", "en").name == normaliser_of("english").name


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_stored_name_leads_back_to_its_normaliser(kind: str) -> None:
    for language in ("en", "de", "zh", "tr"):
        normaliser = normaliser_of(kind, language)
        assert normaliser_stamped(normaliser.name).name == normaliser.name
    earlier = "whisper-english 0.1.15, digit strings joined, lone symbols dropped"
    assert normaliser_stamped(earlier).name == normaliser_of("whisper").name


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_number_that_python_does_not_read_is_no_crash(kind: str) -> None:
    assert normaliser_of(kind).words("1" * 5000 + " is long").words[-1] == "long"


def test_what_is_counted_in_other_languages_is_told() -> None:
    assert note_on("auto", "en") == ""
    assert "hi" in note_on("auto", "hi")
    assert "character" not in note_on("auto", "hi")
    assert "each character counts as a word" in note_on("auto", "zh")
