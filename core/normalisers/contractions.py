"""Short forms and their words, as Whisper's paper (appendix C) and the Open ASR Leaderboard write them out."""

import re
from collections.abc import Callable

SPOKEN = {
    "wanna": "want to",
    "gotta": "got to",
    "gonna": "going to",
    "imma": "i am going to",
    "woulda": "would have",
    "coulda": "could have",
    "shoulda": "should have",
}
TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "st": "saint",
    "dr": "doctor",
    "prof": "professor",
    "capt": "captain",
    "gov": "governor",
    "ald": "alderman",
    "gen": "general",
    "sen": "senator",
    "rep": "representative",
    "pres": "president",
    "rev": "reverend",
    "hon": "honorable",
    "asst": "assistant",
    "assoc": "associate",
    "lt": "lieutenant",
    "col": "colonel",
    "jr": "junior",
    "sr": "senior",
    "esq": "esquire",
}
WHOLE = {
    "won't": "will not",
    "can't": "can not",
    "let's": "let us",
    "ain't": "aint",
    "y'all": "you all",
    "i'ma": "i am going to",
    "ma'am": "madam",
}
IS_AFTER = "it|he|she|what|that|who|here|there|how|when|where|why|this"
"""After these words 's is "is"; after any other it is a possessive."""

# In this order: the first that fits a place takes it.
ENDINGS = (
    (r"'([ds]) (been|gone)\b", lambda found: f" {'had' if found[1] == 'd' else 'has'} {found[2]}"),
    (r"'d done\b", lambda found: " had done"),
    (r"'s got\b", lambda found: " has got"),
    (r"n't\b", lambda found: " not"),
    (r"'re\b", lambda found: " are"),
    (rf"\b({IS_AFTER})'s\b", lambda found: f"{found[1]} is"),
    (
        r"'(d|ll|t|ve|m)\b",
        lambda found: " " + {"d": "would", "ll": "will", "t": "not", "ve": "have", "m": "am"}[found[1]],
    ),
)
COMPOUNDS = (
    (r"\bet\s+cetera\b", "etc"),
    (r"\b(?:all|al)\s+right\b", "alright"),
    (r"\bhow\s+ever\b", "however"),
    (r"\b(wi|hi|lo|sci)\s+fi\b", r"\1fi"),
    (r"\be\s+(mail|book|commerce)\b", r"e\1"),
    (r"\bx\s+ray\b", "xray"),
    (r"\bt\s+shirt\b", "tshirt"),
    (r"\b([ap])\s+m\b", r"\1m"),
    (r"\bo\s+k\b", "okay"),
)
"""Words that the leaderboard writes together whatever stands on the other side."""


def replacer(words: dict[str, str]) -> Callable[[str], str]:
    """Return what writes whole words out in one pass."""
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})\b")
    return lambda text: pattern.sub(lambda found: words[found[0]], text)


def endings(text: str) -> str:
    """Write out what is shortened behind an apostrophe."""
    for pattern, words in ENDINGS:
        text = re.sub(pattern, words, text)
    return text


def compounds(text: str) -> str:
    """Write the compounds of the list together."""
    for pattern, word in COMPOUNDS:
        text = re.sub(pattern, word, text)
    return text
