import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import text

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (float("inf"), "–"), (3.21, "3.2 s"), (59.4, "59 s"), (125, "2 min 05 s"), (7384, "2 h 03 min")],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "just now"), (2, "just now"), (50, "50 s ago"), (150, "2 min ago"), (7300, "2 h ago"), (90_000, "yesterday")],
)
def test_a_moment_is_shown_by_its_age(seconds: float, shown: str) -> None:
    assert text.ago(NOW - timedelta(seconds=seconds), NOW) == shown


def test_numbers_have_their_units_and_a_real_minus() -> None:
    assert text.percent(0.2634) == "26.3 %"
    assert text.percent(None) == "–"
    assert text.points(-0.041) == "−4.1"
    assert text.points(0.013) == "+1.3"
    assert text.interval((-0.086, 0.021)) == "−8.6 to +2.1"
    assert text.decimal(-0.0004, 2) == "0.00"
    assert text.decimal(-0.056, 2) == "−0.06"
    assert text.degrees(3.141592653589793 / 2) == "90.0°"
    assert text.count(37_760_256).replace("\u202f", " ") == "37 760 256"


def test_settings_read_as_labels() -> None:
    assert text.words("encoder_layers") == "Encoder layers"
    assert text.words("lora rank") == "LoRA rank"


@given(st.text())
def test_foreign_text_has_no_sign_left_that_markdown_would_read(foreign: str) -> None:
    shown = text.plain(foreign)
    for place, letter in enumerate(shown):
        if letter in "*_`[]<>#$:~|!(){}":
            assert shown[place - 1] == "\\"
    assert "\n" not in shown


@pytest.mark.parametrize("address", ["http://e.com", "HTTPS://e.com/a?b", "www.e.com", "a@b.co", "[l](http://e.com)"])
def test_an_address_in_a_name_is_letters_and_no_link(address: str) -> None:
    # What remark-gfm takes for links in plain text, after the escapes are gone.
    literal = re.compile(r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+", re.IGNORECASE)
    shown = text.plain(f"see {address}").replace("\\", "")
    assert literal.search(f"see {address}")
    assert not literal.search(shown)
    assert shown.replace("\u2060", "") == f"see {address}"


@pytest.mark.parametrize(
    "name",
    [
        ":material/delete: lr 1e-3",
        "lr :material/delete:",
        ":streamlit: :smile: :+1: :-1: :red[hot] :small[x]",
        "a -> b <- c <-> d -- e >= f <= g ~= h",
        "->",
        "$x^2$ `c` <b>b</b> ~~s~~ [l](http://e.com)",
    ],
)
def test_no_sign_of_a_name_is_left_for_what_streamlit_looks_for_once_the_escapes_are_gone(name: str) -> None:
    # What its page replaces in plain text, as it is written there.
    icons = r":material[/_]\w+:|:streamlit:|:\+1:|:-1:|:[\w-]+:"
    arrows = r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)"
    shown = text.plain(name).replace("\\", "")
    assert not re.search(f"{icons}|{arrows}", shown)
    assert shown.replace("\u2060", "") == name


def test_a_name_on_a_button_of_a_table_is_no_icon_and_no_menu() -> None:
    assert not re.match(r":material/\w+:", text.pressed(":material/delete: lr"))
    assert not text.pressed("[a, b]").strip().endswith("]")
    assert text.pressed("[a, b] c") == "[a, b] c"
    assert text.pressed("+ logit KD") == "+ logit KD"


def test_the_first_sentence_ends_where_the_second_begins() -> None:
    assert text.first_sentence("The disk is full. Make room.") == "The disk is full."
    assert text.first_sentence("Mistakes in a.yaml:\n- one\n- two") == "Mistakes in a.yaml."


def test_a_difference_is_marked_by_sign_as_well_as_colour() -> None:
    marked = text.marked([("equal", ["a"], ["a"]), ("substitute", ["cat"], ["hat"]), ("delete", ["sat"], [])])
    assert marked == "a :red-background[~~cat~~] :orange-background[**hat**] :red-background[~~sat~~]"


def test_a_model_that_heard_nothing_is_said_to() -> None:
    assert text.marked([]) == "*nothing*"
