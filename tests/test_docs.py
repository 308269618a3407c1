"""What the documentation promises: its links, pictures, tables, trees and code."""

import ast
import json
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from typer.main import get_command

from core.bundles import example_bundle
from core.config import RunConfig, method_rows, parse_ablation, parse_run, preset_names
from core.config.base import Settings
from core.runs import Studio
from core.sources.manifest import read_manifest
from tests.documents import ALL, PAGES, ROOT, anchors, between, blocks, prose

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PICTURE = r'(?:src|srcset)="([^"]+)"|!\[[^\]]*\]\(([^)]+)\)'


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", prose(page))
    for target in (first or second for first, second in targets):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (folder / path).resolve() if path else ROOT / page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(found.relative_to(ROOT).as_posix()), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+\.md)", PAGES["README.md"]))
    assert linked == set(PAGES) - {"README.md"}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 200


def test_pages_show_every_picture_there_is_and_no_other() -> None:
    shown = {
        (ROOT / page).parent.joinpath(first or second).resolve().relative_to(ROOT)
        for page, text in PAGES.items()
        for first, second in re.findall(PICTURE, text)
    }
    there = {path for kind in ("*.png", "benchmarks/*.svg") for path in (ROOT / "assets").glob(kind)}
    assert shown == {path.relative_to(ROOT) for path in there}


def tree() -> list[Path]:
    """Return the paths that the drawing of the project lists."""
    (block,) = [text for text in blocks("", "docs/developing.md") if text.startswith("pyproject.toml")]
    return [Path(line.split()[0]) for line in block.splitlines()]


def test_the_tree_lists_what_is_there_and_leaves_out_nothing() -> None:
    made_on_first_use = {Path("experiments.db"), Path("runs")}
    tools = {"build", "dist"}
    there = {
        Path(path.name)
        for path in ROOT.iterdir()
        if not path.name.startswith((".", "__")) and path.suffix != ".egg-info" and path.name not in tools
    }
    assert set(tree()) - made_on_first_use == {path for path in there if not path.name.startswith("experiments.db")} - {
        Path("runs")
    }


def test_files_that_pages_name_exist() -> None:
    named = set(re.findall(r"`((?:app|core|tests|benchmarks|docs|assets|findings)/[\w./-]*)`", ALL))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_modules_and_functions_that_pages_name_exist() -> None:
    named = set(re.findall(r"`(core(?:\.\w+)+)`", ALL))
    assert len(named) > 10
    for name in sorted(named):
        looked_up(name)


def looked_up(name: str) -> Any:
    """Return what is called so: a module, or something of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def test_methods_of_the_studio_that_pages_name_exist() -> None:
    named = set(re.findall(r"`Studio\.(\w+)", ALL))
    assert {"start", "wait", "ablation"} <= named
    assert [name for name in named if not hasattr(Studio, name) and name != "store"] == []


def test_the_commands_are_those_of_the_command_line() -> None:
    commands: Any = get_command(import_module("core.cli").app)
    assert set(re.findall(r"`manifold ([a-z]+)", ALL)) == set(commands.commands)


def test_every_command_of_the_table_has_its_function_in_python() -> None:
    rows = r"^\| `(manifold [^`]+)` \|"
    of_launching, of_python = (
        set(re.findall(rows, PAGES[f"docs/{page}.md"], re.MULTILINE)) for page in ("launching", "python")
    )
    assert of_python == of_launching - {"manifold serve"}


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", ALL, re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_the_presets_are_all_listed() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| ", PAGES["docs/launching.md"], re.MULTILINE)
    assert set(listed) >= set(preset_names())


def test_the_number_of_methods_is_right() -> None:
    (number,) = re.findall(r"(\d+) methods", PAGES["README.md"])
    assert int(number) == len(method_rows())


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_file_of_settings_is_a_run_or_an_ablation(block: str) -> None:
    fields = yaml.safe_load(block)
    if "rows" in fields:
        _, configs = parse_ablation(fields)
        assert len(configs) == len(fields["rows"])
    else:
        assert parse_run(fields).name == fields["name"]


def test_settings_in_lines_are_settings() -> None:
    for line in re.findall(r"`((?:training|source): \{[^`]+\})`", ALL):
        parse_run({"method": {"losses": [{"kind": "cross_entropy"}]}, **yaml.safe_load(line)})
    for name in re.findall(r"`((?:training|evaluation|ensemble|lora)\.\w+)`", ALL):
        section, field = name.split(".")
        settings = RunConfig.model_fields[section].annotation
        assert isinstance(settings, type)
        assert issubclass(settings, Settings)
        assert field in settings.model_fields, name


@pytest.mark.parametrize("row", [*blocks("json"), *re.findall(r"`(\{.*audio_filepath.*\})`", ALL)])
def test_a_row_of_a_manifest_is_read(tmp_path: Path, row: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / json.loads(row)["audio_filepath"], noise, 16_000)
    (tmp_path / "rows.jsonl").write_text(row.strip() + "\n", encoding="utf-8")
    (utterance,) = read_manifest(tmp_path / "rows.jsonl")
    assert (utterance.text, utterance.speaker) == ("what is said", "optional")


@pytest.mark.parametrize("block", blocks("python"))
def test_python_imports_what_there_is(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            assert node.module
            assert [name.name for name in node.names if not hasattr(import_module(node.module), name.name)] == []


def test_python_that_reads_a_finished_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for block in blocks("python") if "import_bundle(" in block]
    assert example_bundle() is not None
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    printed = capsys.readouterr().out
    assert "LoRA + CE" in printed
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "small.zip").stat().st_size > 10_000


TINY = """
name: tiny
base:
  student: {kind: pruned, encoder_layers: [0, 1, 3]}
  source: {kind: generated, train: 4, development: 2, test: 2}
  training: {steps: 2, batch_size: 2, evaluations: 1}
rows: [{method: ce}, {method: manifold}]
"""


@pytest.mark.long
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_that_starts_a_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    (block,) = [block for block in blocks("python", page) if "studio.start(" in block]
    # The README's block runs the quick start; here a job of two small runs stands for it.
    block = block.replace('read_preset("quickstart")', 'read_ablation(Path("ablation.yaml"))')
    block = block.replace("import read_preset", "import read_ablation")
    (tmp_path / "ablation.yaml").write_text(TINY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    printed = capsys.readouterr().out
    assert "LoRA + CE" in printed
    assert "+ manifold" in printed


def test_the_readmes_python_is_ten_lines() -> None:
    (block,) = blocks("python", "README.md")
    assert len(block.splitlines()) <= 10


def test_the_table_of_coverage_is_of_the_stored_simulation() -> None:
    stored = (ROOT / "assets" / "benchmarks" / "coverage.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in between("coverage").splitlines() if line]
    assert len(rows) > 20
    assert [row for row in rows if row not in stored] == []


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "Manifold Studio contributors"}]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_the_newest_entry_of_the_changes_is_this_version() -> None:
    assert re.findall(r"^## (\S+)", PAGES["CHANGELOG.md"], re.MULTILINE)[0] == PROJECT["version"]


def test_the_package_shows_the_readme() -> None:
    assert PROJECT["readme"] == "README.md"
