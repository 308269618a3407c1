"""What is not seen leaves names."""

import unicodedata

import pytest

from core.config import parse_ablation, parse_run
from core.config.models import Teacher
from core.names import cleaned, visible

UNSEEN = [
    *(
        chr(code)
        for code in (*range(0x20), *range(0x7F, 0xA0))
        if chr(code) not in "\t\n\v\f\r\x85\x1b\x9b\x90\x98\x9d\x9e\x9f"
    ),
    *(chr(code) for code in (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    *"\u00ad\u061c\u180e\u2060\ufeff\ufff9\U000e0041",
]


@pytest.mark.parametrize("sign", UNSEEN, ids=lambda sign: f"U+{ord(sign):04X}")
def test_a_sign_that_is_not_seen_leaves_a_name(sign: str) -> None:
    assert cleaned(f"{sign}heal{sign}ed{sign}") == "healed"
    assert visible(f"a{sign}\nb") == "a\nb"


@pytest.mark.parametrize("sign", [*"\t\n\v\f\r\x85\u2028\u2029", "\r\n", "\u00a0", "  "], ids=ascii)
def test_a_name_stands_on_one_line(sign: str) -> None:
    assert cleaned(f" a{sign}b ") == "a b"


@pytest.mark.parametrize(
    "escape",
    [
        "\x1b[31m",
        "\x1b[2J",
        "\x1b[1;1H",
        "\x1b[?25l",
        "\x9b31m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://evil.example\x1b\\",
        "\x1bP1$r0m\x1b\\",
        "\x1bc",
        "\x1b(0",
        "\x1b",
        "\x9d0;title\x9c",
        "\x1b\x1b[31m",
    ],
    ids=ascii,
)
def test_an_order_to_a_terminal_leaves_a_name_as_a_whole(escape: str) -> None:
    assert cleaned(f"a{escape} b") == "a b"


@pytest.mark.parametrize(
    "name", ["größer ✓", "β = 0.5 → 2", "学生 LoRA", "हिन्दी", "עברית", "👩 🔬", "a_b-c.d/e:f", "e\u0301"]
)
def test_what_is_seen_stays(name: str) -> None:
    assert cleaned(name) == name


def test_nothing_of_the_kinds_control_format_and_surrogate_is_left() -> None:
    everything = "".join(
        map(chr, (*range(0x3000), *range(0xD800, 0xE000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0080)))
    )
    kept = {sign for sign in cleaned(everything) if unicodedata.category(sign) in ("Cc", "Cs")}
    assert kept == set()
    overrides = {
        sign
        for sign in cleaned(everything)
        if unicodedata.bidirectional(sign) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    }
    assert overrides == set()


def test_settings_take_names_in_without_them() -> None:
    fields = {"method": {"name": "c\u202ee", "losses": [{"kind": "cross_entropy"}]}, "name": "\x1b[31mred\u200b run"}
    config = parse_run({**fields, "teachers": [{"model": "openai/\u200bwhisper-tiny.en"}]})
    assert (config.name, config.method.name) == ("red run", "ce")
    assert config.teachers[0].model == "openai/whisper-tiny.en"
    ablation, runs = parse_ablation(
        {
            "name": "two\u2066 rows",
            "base": fields,
            "rows": [{"name": "a\x07"}, {"name": "b\u202e", "changes": {"seed": 1}}],
        }
    )
    assert ablation.name == "two rows"
    assert [run.name for run in runs] == ["a", "b"]


def test_a_folder_of_a_model_keeps_its_spaces_and_a_row_is_named_as_it_is_called() -> None:
    folder = "/models/my  best\u00a0one"
    teachers = [{"model": f" {folder}\u200b"}]
    config = parse_run({"method": {"name": "ce", "losses": [{"kind": "cross_entropy"}]}, "teachers": teachers})
    assert config.teachers[0].model == folder
    assert Teacher(model="row:a  row").row == "a row"
    assert Teacher(model="a\nb").model == "a b"
