import json

import pytest

from core.cli import main
from core.config import method_row, method_rows, parse_ablation, read_preset
from core.errors import NotFoundError
from tests.documents import between


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(("methods", *arguments))
    assert not ended.value.code
    return capsys.readouterr().out


def test_every_method_says_what_it_is_and_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, "--json"))
    assert len(rows) >= 24
    assert len({row["key"] for row in rows}) == len({row["name"] for row in rows}) == len(rows)
    assert all(row[field] for row in rows for field in ("group", "meaning", "formula", "source", "changes"))
    text = printed(capsys)
    assert all(row["key"] in text and row["group"] in text for row in rows)


def test_the_table_in_the_documentation_is_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    told = "Put what 'manifold methods --markdown' prints into docs/method.md."
    assert between("methods") == printed(capsys, "--markdown").strip(), told


@pytest.mark.parametrize("row", method_rows(), ids=lambda row: row.key)
def test_every_method_makes_a_run(row) -> None:
    base = {"student": {"kind": "pruned", "encoder_layers": [0, 1, 3]}}
    _, (first, run) = parse_ablation(
        {"name": "two", "base": base, "rows": [{"name": "first", "method": "ce"}, {"method": row.key}]}
    )
    assert run.method.name == row.key
    assert run.name == row.name
    assert row.key == "ce" or run.method != first.method or run.lora != first.lora


def test_the_presets_hold_every_method_between_them() -> None:
    presets = ("ablation-small", "ablation-small-encoder", "mixture", "ensemble")
    held = {config.method.name for name in presets for config in read_preset(name)[1]}
    assert held == {row.key for row in method_rows()}


def test_a_method_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFoundError, match=r"no method 'kdd'.*kd, kd-t1, dkd"):
        method_row("kdd")
