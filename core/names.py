"""Names and messages without what nobody sees: a terminal would obey it, and a reader be deceived by it.

Only for names and what is said of them. In what was spoken, joiners between letters are spelling.
"""

import re

_ESCAPES = re.compile(
    # Control sequences of terminals as a whole, or what follows the escape would stay: CSI, strings up to their end
    # (titles, links), and single ones.
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b(?:[!-/]+[0-~]|[0-~])?"
)

_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
    # Soft hyphen, marks and overrides of direction, joiners, fillers, separators, byte order marks, tags, and halves.
    "\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

_LINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def cleaned(name: str) -> str:
    """Return a name on one line, with one space between its words and nothing in it that is not seen."""
    return " ".join(visible(name).split())


def on_one_line(text: str) -> str:
    """Return text on one line with nothing in it that is not seen; its spaces stay, as those of a folder's name."""
    return re.sub(r"[\n\t]", " ", visible(text)).strip()


def visible(text: str) -> str:
    """Return text of several lines with nothing in it that is not seen, but for its lines and tabs."""
    return _UNSEEN.sub("", _LINES.sub("\n", _ESCAPES.sub("", text)))
