"""What test sets are called where people read of them, and in which order they stand: real speech first."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from core.config import SOURCES

TEST, DEVELOPMENT = "test", "development"
"""A source's own set that is read once, and the set that chooses checkpoints and settings."""

CALLED = {
    "real": "recorded clips",
    "asterisk": "Asterisk prompts",
    **{f"asterisk-{language}": f"Asterisk prompts ({language})" for language in ("en", "es", "fr", "it", "ru")},
}
"""Manifests that the project makes, by the stem of their files, which is what their results are stored under."""


def called(test_set: str, config: Mapping[str, Any]) -> str:
    """Return what a test set is called.

    Args:
        test_set: What its results are stored under.
        config: Settings of a run that read it.
    """
    return names([test_set], config)[test_set]


def names(test_sets: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """Return what test sets of a job are called, no two alike: the source's own as the source says, others by file.

    Args:
        test_sets: What their results are stored under.
        config: Settings of a run that read them.
    """
    stored = list(dict.fromkeys(test_sets))
    found = {name: _own(config) if name == TEST else CALLED.get(name, name) for name in stored}
    often = list(found.values())
    return {name: said if often.count(said) == 1 else f"{said} ({name})" for name, said in found.items()}


def in_order(test_sets: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """Return test sets as tables show them: extra manifests as the settings name them, then the source's own set."""
    given = [PurePath(path).stem for path in config.get("evaluation", {}).get("extra_tests", ())]
    last = (TEST, DEVELOPMENT)
    places = {name: place for place, name in enumerate(given)}
    return sorted(
        dict.fromkeys(test_sets),
        key=lambda name: (last.index(name) + 1 if name in last else 0, places.get(name, len(given))),
    )


def _own(config: Mapping[str, Any]) -> str:
    source = config.get("source", {})
    kinds = {kind.model_fields["kind"].default: kind for kind in SOURCES}
    said = getattr(kinds.get(source.get("kind")), "TEST_SET", TEST)
    return said or PurePath(source.get("test", TEST)).stem or TEST
