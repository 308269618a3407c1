import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.cli import main
from core.cli.checking import checks_json, print_checks, size, told_while
from core.config import RunConfig, dump_run
from core.runs import Estimate, ParameterCounts, Studio

COUNTS = ParameterCounts(37_760_256, 35_986_176, 221_184, 147_456, 37_760_256, 15_322_368, 1.6e9, 1.3e9)


def estimate(**fields: Any) -> dict[str, Any]:
    usual = {field.name: 1_000_000 for field in dataclasses.fields(Estimate)}
    times = {"device": "CPU", "busy": False, "step_seconds": 0.25, "training_seconds": 40.0, "transcribe_seconds": 0.5}
    return usual | times | {"run_seconds": 60.0, "shared_seconds": 30.0} | fields


def result(*problems: tuple[str, str], **fields: Any) -> dict[str, Any]:
    shares = {name: COUNTS.shares(getattr(COUNTS, name)) for name in ("student", "adapters", "projections")}
    return {
        "problems": [{"where": where, "message": message} for where, message in problems],
        "origin": "the package",
        "tokens": {"student": 51_864, "teacher": 51_864, "shared": 51_864},
        "parameters": {
            **dataclasses.asdict(COUNTS),
            "share_of_teacher": COUNTS.share_of_teacher,
            "shares": shares,
        },
        "rank": 32,
        "adapted": ["a", "b"],
        "gradients": {"terms": ["cross_entropy"], "adapters": 2},
        "estimate": estimate(),
        **fields,
    }


def printed(found: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_checks(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_text_and_json_tell_what_runs_and_their_job_take(configs: tuple[RunConfig, ...]) -> None:
    found = json.loads(json.dumps(checks_json("two", configs[:2], [result(), result()]), allow_nan=False))
    assert found["well"]
    assert found["job"]["seconds"] == 30 + 2 * 60
    text = printed(found)
    for part in (
        configs[0].name,
        "221,184",
        "0.98 %",
        "0.25 s",
        "1.60 GFLOP",
        "one token table",
        "Every term and every adapter has a gradient",
        "about 2 min 30 s on CPU",
        "These 2 runs can start.",
    ):
        assert part in text
    assert "Another job" not in text


def test_a_check_says_what_makes_the_words_that_are_counted(configs: tuple[RunConfig, ...]) -> None:
    words = {"normaliser": "basic 1", "notes": ["language hi: numbers stay as they are written"]}
    text = printed(checks_json("one", configs[:1], [result(**words)]))
    assert "Words are counted by basic 1." in text
    assert "Note: language hi: numbers stay as they are written." in text
    failed = printed(checks_json("one", configs[:1], [{"problems": [{"where": "", "message": "no model"}], **words}]))
    assert "Words are counted by basic 1." in failed


def test_a_mistake_of_some_runs_names_them_and_one_of_all_stands_once(configs: tuple[RunConfig, ...]) -> None:
    disk = ("disk", "make room")
    found = checks_json("three", configs[:3], [result(disk), result(disk, ("lora", "no match")), result(disk)])
    assert not found["well"]
    text = printed(found)
    assert "2 mistakes:" in text
    assert "  - disk: make room" in text
    assert f"  - {configs[1].name}: lora: no match" in text
    assert "can start" not in text


def test_times_taken_beside_another_job_are_said_to_be_so(configs: tuple[RunConfig, ...]) -> None:
    found = checks_json("one", configs[:1], [result(estimate=estimate(busy=True))])
    assert "The machine had other work meanwhile" in printed(found)


def test_a_check_without_measuring_has_no_times(configs: tuple[RunConfig, ...]) -> None:
    plain = result()
    del plain["estimate"]
    found = checks_json("one", configs[:1], [plain])
    assert found["job"] is None
    assert "The whole job" not in printed(found)


@pytest.mark.parametrize(("count", "said"), [(900, "1 kB"), (2_500_000, "2.5 MB"), (3_210_000_000, "3.2 GB")])
def test_sizes_are_readable(count: int, said: str) -> None:
    assert size(count) == said


def test_a_run_that_cannot_be_ends_the_command_with_two_and_is_kept(
    studio: Studio,
    places: list[str],
    tmp_path: Path,
    make_config: Callable[..., RunConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make_config(teachers=[{"model": str(tmp_path / "nothing")}])
    (tmp_path / "run.yaml").write_text(dump_run(config))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "run.yaml"), "--json", "--no-measure", *places])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 2
    assert found["problems"][0]["where"] == "teachers"
    kept = studio.store.check(1)
    assert (kept.state, kept.config, kept.measure) == ("finished", config.model_dump(mode="json"), False)


def test_the_mistakes_of_every_row_of_a_file_come_at_once(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"name": "a", "changes": {"training": {"steps": 0}}},
        {"name": "b", "changes": {"seed": -1}},
    ]
    base = {"method": {"losses": [{"kind": "cross_entropy"}]}, "lora": {"rank": 0}}
    (tmp_path / "rows.json").write_text(json.dumps({"name": "x", "base": base, "rows": rows}))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "rows.json"), *places])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "has 3 mistakes" in said
    assert "  - base.lora.rank: " in said
    assert "  - rows.0.changes.training.steps: " in said
    assert "  - rows.1.changes.seed: " in said


def test_a_check_says_what_it_does_and_how_long_it_may_take(
    configs: tuple[RunConfig, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for measured, long in ((True, "a quarter of a minute or more for each; --no-measure"), (False, "some seconds")):
        with told_while(configs, measured=measured) as tell:
            tell("Measuring real steps of [b]x[/b], run 1 of 4")
        said = capsys.readouterr()
        assert long in " ".join(said.err.split())
        assert "Measuring real steps of [b]x[/b], run 1 of 4 ..." in said.err
        assert said.out == ""
