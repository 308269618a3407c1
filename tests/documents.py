"""The documentation, page by page, for the tests that hold it to its word."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
"""Text of every page by its path."""

ALL = "\n".join(PAGES.values())

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str, page: str | None = None) -> list[str]:
    """Return the blocks of code in a language, of one page or of all."""
    return [code for name, code in FENCED.findall(ALL if page is None else PAGES[page]) if name == language]


def between(name: str) -> str:
    """Return what stands between the markers of that name, in whichever page has them."""
    (found,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", ALL, re.DOTALL)
    return found.strip()


def prose(page: str) -> str:
    """Return a page without its blocks of code and its code in lines."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", PAGES[page]))


def anchors(page: str) -> set[str]:
    """Return what links to a page can point to: headings in lower case, without punctuation, hyphens for spaces."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", PAGES[page]), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        again = next(number for number in range(100) if (f"{name}-{number}" if number else name) not in found)
        found.add(f"{name}-{again}" if again else name)
    return found
