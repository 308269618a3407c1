from typing import Any

import pytest

from core.config import SOURCES
from core.test_sets import called, in_order, names


def config(source: dict[str, Any], *extra: str) -> dict[str, Any]:
    return {"source": source, "evaluation": {"extra_tests": list(extra)}}


GENERATED = config({"kind": "generated", "test": 100})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "generated", "test": 100}, "generated voice"),
        ({"kind": "voices", "test": 100}, "unseen voices"),
        ({"kind": "manifest", "test": "/data/librispeech-clean.jsonl"}, "librispeech-clean"),
        ({"kind": "manifest", "test": "test.jsonl"}, "test"),
        ({"kind": "one of a later version"}, "test"),
    ],
)
def test_the_own_test_set_is_called_as_its_source_says(source: dict[str, Any], said: str) -> None:
    assert called("test", config(source)) == said


def test_every_source_says_what_its_test_set_is() -> None:
    assert [kind.__name__ for kind in SOURCES if not hasattr(kind, "TEST_SET")] == []


def test_extra_sets_are_called_by_their_file_those_that_the_project_makes_by_what_they_are() -> None:
    found = names(["real", "asterisk", "asterisk-en", "phone calls", "development"], GENERATED)
    assert found == {
        "real": "recorded clips",
        "asterisk": "Asterisk prompts",
        "asterisk-en": "Asterisk prompts (en)",
        "phone calls": "phone calls",
        "development": "development",
    }


def test_no_two_sets_of_a_job_are_called_alike() -> None:
    own = config({"kind": "manifest", "test": "/a/calls.jsonl"}, "/b/calls.jsonl")
    assert names(["test", "calls"], own) == {"test": "calls (test)", "calls": "calls (calls)"}


def test_real_speech_stands_first_in_the_order_of_the_settings() -> None:
    own = config({"kind": "generated"}, "/x/b.jsonl", "/x/a.jsonl")
    assert in_order(["test", "development", "a", "later", "b"], own) == ["b", "a", "later", "test", "development"]
