"""Numbers as they are written, brought to what is said, so that none is lost and no two become one.

Whisper's rules join "3.1", "1/2" and "5 - 3" with what stands beside them, and drop zeros that lead. What can be said
in several ways stays one word that holds its readings; all else becomes spoken words, which Whisper's rules then turn
into digits as they do with speech.
"""

import re
from collections.abc import Callable

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DENOMINATORS = {
    2: ("half", "halves"),
    3: ("third", "thirds"),
    4: ("quarter", "quarters"),
    5: ("fifth", "fifths"),
    6: ("sixth", "sixths"),
    7: ("seventh", "sevenths"),
    8: ("eighth", "eighths"),
    9: ("ninth", "ninths"),
    10: ("tenth", "tenths"),
    16: ("sixteenth", "sixteenths"),
    100: ("hundredth", "hundredths"),
}
SPOKEN_FRACTIONS = {
    **{one: number for number, (one, _) in DENOMINATORS.items()},
    **{many: number for number, (_, many) in DENOMINATORS.items()},
    "fourth": 4,
    "fourths": 4,
}
OPERATORS = {"+": "plus", "×": "times", "*": "times", "÷": "divided by", "=": "equals", "±": "plus or minus"}
WITHOUT_THE_SLASH = ("24/7", "9/11", "50/50", "20/20")

Keep = Callable[[str, tuple[str, ...]], str]
"""Takes a word with its other readings, and returns what stands for it in the text from now on."""

_PARTS = "|".join(sorted(SPOKEN_FRACTIONS, key=len, reverse=True))
_FRACTION = re.compile(rf"\b({'|'.join(DIGITS[1:])}|\d{{1,3}}) ({_PARTS})\b")
_TENS = re.compile(r"(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|point|\d)[ -]$")


def said(text: str, keep: Keep) -> str:
    """Return a text of lower-case letters whose written numbers read as they are said."""
    if not re.search(r"\d", text):
        return _FRACTION.sub(lambda found: _spoken_fraction(found, keep), text)
    text = re.sub(r"(\d)'s\b", r"\1s", text)
    # Three digits behind a comma are thousands, and several commas a list; else "1,5" would be 15.
    text = re.sub(r"(?<![\w.,])(\d+),(\d{1,2})(?![\w,]|\.\d)", r"\1.\2", text)
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = re.sub(r"(?<![\w.])(\d+)\s?\^\s?(\d+)(?![\w.])", lambda found: _power(found, keep), text)
    text = re.sub(r"(?<=\d)\s+(?=[%‰])", "", text)
    text = re.sub(r"([$€£¢])\s+(?=\d)", r"\1", text)
    text = re.sub(r"(?<![\w.$€£¢])(\d+(?:\.\d+)?)\s?([$€£¢])(?![\w.]*\d)", r"\2\1", text)
    text = re.sub(r"#\s?(?=\d)", "number ", text)
    text = re.sub(r"°\s?([cf])\b", lambda found: f" degrees {'celsius' if found[1] == 'c' else 'fahrenheit'}", text)
    text = re.sub(r"(?<=\d)\s?°", " degrees", text)
    text = re.sub(r"(?<=\d) and a half\b", " point five", text)
    text = re.sub(r"(?<![\d/.])(\d+)[ -](\d+[/⁄]\d+)(?![\d/])", _mixed, text)
    text = re.sub(r"(?<![\w/.])(\d+)\s?[/⁄]\s?(\d+)(?![\w/]|\.\d)", lambda found: _ratio(found, keep), text)
    text = _FRACTION.sub(lambda found: _spoken_fraction(found, keep), text)
    text = re.sub(
        r"(?<![\w.])(\d+(?:\.\d+)?)((?:\s[-–−]\s\d+(?:\.\d+)?)+)(?!\w)", lambda found: _dashes(found, keep), text
    )
    text = re.sub(r"(?<![\w.])(\d+)[–−](\d+)(?!\w|[–−]\d)", lambda found: _span(found[1], found[2], keep), text)
    text = re.sub(r"(?<![\w.-])(\d+)-(\d+)(?!\w|-\d|\.\d)", lambda found: _hyphen(found, keep), text)
    text = re.sub(r"(?<![\w.:])(\d{1,2}):(\d{2}|\d)(?![\w:])", lambda found: _colon(found, keep), text)
    text = re.sub(r"(?:(?<=\s)|^)[-−](?=\d)", "minus ", text)
    text = re.sub(
        r"(?:(?<=[\d\s])|^)\s*([+×*÷=±])\s*(?=[\d$€£\ue000-\uf8ff])", lambda found: f" {OPERATORS[found[1]]} ", text
    )
    text = re.sub(r"(?<![\d.])(\d+)\.(0+)(?![\d.])", lambda found: f"{found[1]} point {_digits(found[2])}", text)
    return re.sub(r"(?<![\w.])0\d+\b(?!\.\d)", lambda found: _digits(found[0]), re.sub(r"(?<=\d)[:-](?=\d)", " ", text))


def _word(number: str) -> str:
    """Return a number as it stands alone in a normalised text."""
    return "one" if number == "1" else number


def _digits(number: str) -> str:
    return " ".join(DIGITS[int(digit)] for digit in number)


def _mixed(found: re.Match[str]) -> str:
    """Return "3 1/2" as Whisper's rules take "three and a half", with "point five", and "3 1/4" with "and"."""
    whole, fraction = found.groups()
    return f"{whole} point five" if fraction in ("1/2", "1⁄2") else f"{whole} and {fraction}"


def _ratio(found: re.Match[str], keep: Keep) -> str:
    over, under = found.groups()
    word = f"{over}/{under}"
    if word in WITHOUT_THE_SLASH:
        return keep(word, (over + under,))
    return keep(word, _fraction_readings(over, under))


def _fraction_readings(over: str, under: str) -> tuple[str, ...]:
    readings = [f"{_word(over)}over{under}", f"{_word(over)}outof{under}"]
    if (over, under) in (("1", "2"), ("1", "4")):
        readings += [f"{before}{'half' if under == '2' else 'quarter'}" for before in ("", "a")]
    if over == "1":
        readings += [f"a{under}{'rd' if under == '3' else 'th'}"]
    return tuple(readings)


def _spoken_fraction(found: re.Match[str], keep: Keep) -> str:
    number, part = found.groups()
    over = str(DIGITS.index(number)) if number in DIGITS else number
    single = part in {one for one, _ in DENOMINATORS.values()} | {"fourth"}
    if single != (over == "1") or _TENS.search(found.string[: found.start()]):
        return found[0]
    return keep(f"{over}/{SPOKEN_FRACTIONS[part]}", _fraction_readings(over, str(SPOKEN_FRACTIONS[part])))


def _dashes(found: re.Match[str], keep: Keep) -> str:
    """Return numbers with dashes between spaces: two of them subtracted, or a range; more of them subtracted."""
    numbers = re.split(r"\s[-–−]\s", found[0])
    return _span(*numbers, keep=keep) if len(numbers) == 2 else " minus ".join(numbers)


def _span(first: str, last: str, keep: Keep) -> str:
    return keep(f"{first}-{last}", tuple(f"{_word(first)}{between}{_word(last)}" for between in ("to", "minus")))


def _hyphen(found: re.Match[str], keep: Keep) -> str:
    """Return two numbers with a hyphen: digits that are grouped as in telephone numbers, else a range or a score.

    Short numbers are ranges, so that "5-3" is not 53.
    """
    first, last = found.groups()
    if len(first + last) >= 6 or first[0] == "0" or last[0] == "0" or f"{first}/{last}" in WITHOUT_THE_SLASH:
        return keep(first + last, (f"{_word(first)}to{_word(last)}",))
    return _span(first, last, keep)


def _power(found: re.Match[str], keep: Keep) -> str:
    base, exponent = (_word(each) for each in found.groups())
    return keep(f"{base}^{exponent}", (f"{base}tothepowerof{exponent}", f"{base}tothe{found[2]}th"))


def _colon(found: re.Match[str], keep: Keep) -> str:
    """Return a time or a ratio: "10:30" is said without its colon, "10:00" as ten o'clock, "3:1" as three to one.

    One digit behind the colon is no time, so that "3:1" is not 31.
    """
    hour, minutes = found[1].lstrip("0") or "0", found[2]
    readings = (f"{_word(hour)}to{_word(minutes)}", *((f"{_word(hour)}oclock", _word(hour)) if minutes == "00" else ()))
    return keep(found[0] if len(minutes) == 1 else found[1] + minutes, readings)
