#!/usr/bin/env bash
# whisper-normalizer 0.1.15 (Whisper's English normaliser, as openai-whisper has it): words that become something else.
#
# Word error rates are counted after it, so what it does to one side only is an error that nobody made.
# Expected: each of 1,739 British spellings becomes one American word, a number keeps what it counts, and the two ways
#    of writing the same come out alike.
# Seen:
# 1. The spelling table holds markup and a pair in one entry: "archaeology" becomes "archeology</span>", which is never
#    equal to "archeology"; the entry "flyer / flier" matches no word.
# 2. A lone 1 is written "one" whatever it counted: "1%", "one percent" and "$1" all become "one", and so are equal.
# 3. "o'clock" becomes "0 clock": the o is read as a digit, and one word is counted as two.
# 4. A typographic apostrophe becomes a space: "don't" and the same word with U+2019 differ in two words.
#
# What follows: fold apostrophes first, repair the table, and name the normaliser beside every rate.
#
# Output seen:
#   entries with other signs than letters: ['archaeology: archeology</span>', 'flyer / flier: flier / flyer']
#   1%, one percent, $1: ['one', 'one', 'one']; o'clock: 0 clock; don't: do not, don t
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q whisper-normalizer==0.1.15
cat >"$folder/words.py" <<'PYTHON'
from whisper_normalizer.english import EnglishSpellingNormalizer, EnglishTextNormalizer

normalise = EnglishTextNormalizer()
table = EnglishSpellingNormalizer().mapping
odd = [f"{word}: {spelled}" for word, spelled in table.items() if not spelled.isalpha() or not word.isalpha()]
amounts = [normalise(text).strip() for text in ("1%", "one percent", "$1")]
clock = normalise("o'clock").strip()
straight, typographic = normalise("don't").strip(), normalise("don\N{RIGHT SINGLE QUOTATION MARK}t").strip()
print("entries with other signs than letters:", odd)
print(f"1%, one percent, $1: {amounts}; o'clock: {clock}; don't: {straight}, {typographic}")
assert len(table) == 1739
assert odd == ["archaeology: archeology</span>", "flyer / flier: flier / flyer"], "this has changed"
assert (amounts, clock) == (["one"] * 3, "0 clock"), "this has changed"
assert (straight, typographic) == ("do not", "don t"), "this has changed"
PYTHON
"$folder/venv/bin/python" "$folder/words.py"
