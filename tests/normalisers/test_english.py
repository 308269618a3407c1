"""English words: what means the same is one, what does not stays two."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.normalisers import normaliser_of
from core.normalisers.folding import APOSTROPHES
from core.normalisers.spelling import MISSING, names, spellings
from core.wer import word_errors

SAME = [
    # Apostrophes and possessives.
    ("It’s John’s", "It's John's"),
    ("dont worry", "don't worry"),
    ("do n't worry", "don't worry"),
    ("he said 'hello' there", "he said hello there"),
    ("the kings men", "the king's men"),
    ("the boats went out", "the boat's went out"),
    ("the mens coats", "the men's coats"),
    ("the kings' men", "the king's men"),
    ("John is here", "John's here"),
    ("it has been said", "it's been said"),
    ("the colour's nice", "the color's nice"),
    ("Stephen’s book", "Steven's book"),
    ("O'Brien", "O Brien"),
    ("rock 'em", "rock em"),
    ("cannot", "can't"),
    # Leading zeros and grouped digits.
    ("zero eight six nine", "0869"),
    ("pin 0042", "pin zero zero four two"),
    ("double oh seven", "007"),
    ("one two three", "1 2 3"),
    ("one two three", "1, 2, 3."),
    ("one two three", "1-2-3"),
    ("one one two", "1 1 2"),
    ("five five five one two three four", "555-1234"),
    ("five five five zero one two three", "555-0123"),
    ("five five five one two three four", "555‑1234"),
    ("zero five", "0 5"),
    ("1 000 people", "one thousand people"),
    ("1 000 000", "1,000,000"),
    ("one", "1"),
    ("the 1 and only", "the one and only"),
    ("１２", "12"),
    # Decimals, fractions, ranges, sums, times.
    ("3.0", "three point zero"),
    ("3.10", "three point one zero"),
    ("0.5", "point five"),
    ("1.5", "one point five"),
    ("0.05", "zero point zero five"),
    ("1/2", "one half"),
    ("a half", "1/2"),
    ("½ cup", "half cup"),
    ("3½ cups", "three and a half cups"),
    ("3 1/2 cups", "3 and a half cups"),
    ("2/3 of it", "two thirds of it"),
    ("three quarters", "three fourths"),
    ("120/80", "one twenty over eighty"),
    ("24/7", "twenty four seven"),
    ("9/11", "nine eleven"),
    ("10-15 minutes", "ten to fifteen minutes"),
    ("1990–1995", "1990 to 1995"),
    ("1990-1995", "nineteen ninety nineteen ninety five"),
    ("1 - 3", "one to three"),
    ("they won 5-3", "they won five to three"),
    ("555-1234", "five five five one two three four"),
    ("1,5", "one point five"),
    ("12,5 %", "12.5%"),
    ("€1,50", "€1.50"),
    ("1,000", "1000"),
    ("2^10", "two to the power of ten"),
    ("5 - 3", "five minus three"),
    ("5 – 3", "5 − 3"),
    ("-3 degrees", "minus three degrees"),
    ("−3 °C", "minus three degrees celsius"),
    ("2 + 2 = 4", "two plus two equals four"),
    ("3 × 4", "three times four"),
    ("10:30", "ten thirty"),
    ("7:05", "seven oh five"),
    ("10:00", "ten o'clock"),
    ("3:1", "three to one"),
    ("five o'clock", "5 o’clock"),
    ("1st, 22nd", "first twenty second"),
    ("the 1960's", "the nineteen sixties"),
    # Per cent and money.
    ("1%", "one percent"),
    ("5 %", "five per cent"),
    ("$1", "one dollar"),
    ("$ 5", "five dollars"),
    ("$2.50", "two dollars and fifty cents"),
    ("$5 million", "five million dollars"),
    ("5€", "five euros"),
    ("5 € a piece", "five euros a piece"),
    ("2.50 $", "two dollars and fifty cents"),
    ("50¢", "fifty cents"),
    ("+5 degrees", "plus five degrees"),
    # Spelled letters and compounds.
    ("b b c", "BBC"),
    ("w w w", "www"),
    ("C. E. O.", "CEO"),
    ("5 G", "5G"),
    ("MP3", "mp 3"),
    ("e-mail", "email"),
    ("news papers", "newspapers"),
    ("any one", "anyone"),
    ("co-operate", "cooperate"),
    ("all right", "alright"),
    ("salt & pepper", "salt and pepper"),
    # Spelling, and what is not seen.
    ("archaeology is fun", "archeology is fun"),
    ("an archaeologist", "an archeologist"),
    ("snowploughs pummelled", "snowplows pummeled"),
    ("naïve cafe\u0301", "naive café"),
    ("zero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen"),
]
DIFFERENT = [
    ("3.1", "31"),
    ("3.0", "3"),
    ("3.10", "3.1"),
    ("1/2", "12"),
    ("1 / 2", "12"),
    ("½", "12"),
    ("3/4", "34"),
    ("120/80", "12080"),
    ("5 - 3", "53"),
    ("5 – 3", "53"),
    ("5 − 3", "53"),
    ("5–3", "53"),
    ("5-3", "53"),
    ("10-15 minutes", "1015 minutes"),
    ("1,5", "15"),
    ("2^10", "210"),
    ("2 + 2", "22"),
    ("3 × 4", "34"),
    ("-3", "3"),
    ("one percent", "one"),
    ("1%", "1"),
    ("1%", "$1"),
    ("$1", "one"),
    ("1€", "one"),
    ("50¢", "50"),
    ("+5", "5"),
    ("3:1", "31"),
    ("£1", "$1"),
    ("five o'clock", "five zero clock"),
    ("five o'clock", "50 clock"),
    ("0042", "42"),
    ("007", "7"),
    ("1 000 people", "10 people"),
    ("one fifth", "fifteenth"),
    ("two thirds", "23"),
    ("the king's men", "the queen's men"),
    ("archaeology", "archaeologist"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same_makes_no_error(one: str, other: str) -> None:
    assert word_errors(one, other).errors == 0
    assert word_errors(other, one).errors == 0
    assert word_errors(other, one).character_errors == 0


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_does_not_mean_the_same_is_an_error(one: str, other: str) -> None:
    assert word_errors(one, other).errors > 0
    assert word_errors(other, one).errors > 0


@pytest.mark.parametrize("apostrophe", APOSTROPHES)
def test_every_apostrophe_is_the_one_that_is_typed(apostrophe: str) -> None:
    assert word_errors(f"I don{apostrophe}t know John{apostrophe}s", "I don't know John's").errors == 0


@pytest.mark.parametrize("text", ["no one came", "one by one", "the one and only", "someone 2 phones", "ones 2"])
def test_one_stays_a_word_where_no_number_is_beside_it(text: str) -> None:
    assert normaliser_of()(text) == text


def test_the_list_of_spellings_holds_words_alone_and_none_is_replaced_in_turn() -> None:
    spelled = spellings() | MISSING
    assert all(word.isalpha() and word.islower() for pair in spelled.items() for word in pair)
    assert not spelled.keys() & set(spelled.values())
    assert not names().keys() & set(names().values())
    assert not names().keys() & spelled.keys()
    for ending in ("s", "ing"):
        assert not [pair for pair in spelled.items() if pair[0].endswith(ending) != pair[1].endswith(ending)]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="019 .,-–/:%$°'’½+oa\ue000\uf8ff²①٣", max_size=24))
def test_no_text_breaks_it_and_its_own_characters_never_come_out(text: str) -> None:
    words = normaliser_of().words(text).words
    assert all(word and not any("\ue000" <= letter <= "\uf8ff" for letter in word) for word in words)
    if words:
        assert word_errors(text, text).errors == 0
