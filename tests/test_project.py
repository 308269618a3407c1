"""What holds for the project as a whole: promises of the README, and what no file may do."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.main import get_command

from core.config import preset_names, read_preset, read_run
from core.config.base import Settings
from core.sources.manifest import read_manifest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("app", "core") for path in (ROOT / folder).rglob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_NAMES = {"eval", "exec"}
FORBIDDEN_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}
FORBIDDEN_METHODS = {"extractall"}
ONLY_FALSE = {"shell", "trust_remote_code", "allow_pickle", "unsafe_allow_html"}

TORCH_FREE = (
    "app",
    "core.cli",
    "core.runs",
    "core.store",
    "core.launchers",
    "core.config",
    "core.bundles",
    "core.significance",
    "core.worker",
    "core.analysis_worker",
)


def breaches(source: str) -> Iterator[str]:
    """Yield what a file does that could run foreign code, or turn text into markup."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in FORBIDDEN_MODULES:
                    yield module
                yield from (f"{module}.{name.name}" for name in names if f"{module}.{name.name}" in FORBIDDEN_CALLS)
            case ast.Name(id=name) if name in FORBIDDEN_NAMES:
                yield name
            case ast.Attribute(attr=name) if name in FORBIDDEN_METHODS or ast.unparse(node) in FORBIDDEN_CALLS:
                yield ast.unparse(node)
            case ast.keyword(arg=str(name), value=value) if name in ONLY_FALSE:
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield f"{name}={ast.unparse(value)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_can_run_foreign_code(path: Path) -> None:
    assert list(breaches(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "from torch import load",
        "torch.load(path)",
        "yaml.load(text, yaml.SafeLoader)",
        "eval('1')",
        "exec(text)",
        "archive.extractall(folder)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=wanted)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "numpy.load(path, allow_pickle=True)",
        "streamlit.markdown(text, unsafe_allow_html=True)",
        "os.system(command)",
    ],
)
def test_code_that_could_run_foreign_code_is_noticed(source: str) -> None:
    assert list(breaches(source))


def test_ordinary_code_is_no_breach() -> None:
    assert list(breaches("model.eval()\nyaml.safe_load(text)\nload(path, trust_remote_code=False)")) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_enough_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("module", TORCH_FREE)
def test_what_lists_runs_starts_without_torch(module: str) -> None:
    check = (
        f"import pkgutil, sys, {module} as top\n"
        "for item in pkgutil.walk_packages(getattr(top, '__path__', []), top.__name__ + '.'):\n"
        "    if '.migrations' not in item.name and item.name != 'app.main': __import__(item.name)\n"
        "print(sorted({'torch', 'transformers', 'peft', 'umap'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_valid_ablation(name: str) -> None:
    ablation, runs = read_preset(name)
    assert len(runs) == len(ablation.rows)


def settings_classes(base: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for settings in base.__subclasses__():
        yield settings
        yield from settings_classes(settings)


@pytest.mark.parametrize("settings", list(settings_classes()), ids=lambda settings: settings.__name__)
def test_every_setting_has_a_description(settings: type[Settings]) -> None:
    fields = settings.model_fields.items()
    assert [name for name, field in fields if name != "kind" and not field.description] == []


def blocks(language: str = r"\w*") -> list[str]:
    """Return the blocks of code in the README."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def readme_tree() -> list[Path]:
    """Return the paths that the README's drawing of the project lists."""
    block = next(text for text in blocks() if text.startswith("pyproject.toml"))
    paths: list[Path] = []
    folders: list[tuple[int, Path]] = []
    for line in block.splitlines():
        name = line.split()[0]
        indent = len(line) - len(line.lstrip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        path = (folders[-1][1] if folders else Path()) / name
        paths.append(path)
        if name.endswith("/"):
            folders.append((indent, path))
    return paths


def test_the_tree_in_the_readme_lists_what_is_there() -> None:
    made_on_first_use = {Path("experiments.db"), Path("runs")}
    missing = [str(path) for path in readme_tree() if path not in made_on_first_use and not (ROOT / path).exists()]
    assert missing == []


def test_the_tree_in_the_readme_leaves_out_nothing() -> None:
    listed = set(readme_tree())
    opened = {path.parent for path in listed} - {Path()}
    left_out = [
        str(path.relative_to(ROOT))
        for folder in opened
        for path in sorted((ROOT / folder).iterdir())
        if not path.name.startswith((".", "__")) and path.relative_to(ROOT) not in listed
    ]
    assert left_out == []


def test_the_readme_shows_every_picture_there_is_and_no_other() -> None:
    shown = set(re.findall(r'(?:src|srcset)="(assets/[^"]+)"|\]\((assets/[^)]+)\)', README))
    there = {path for kind in ("*.png", "benchmarks/*.svg") for path in (ROOT / "assets").glob(kind)}
    assert {first or second for first, second in shown} == {str(path.relative_to(ROOT)) for path in there}


def test_the_run_in_the_readme_is_a_run(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "run.yaml").write_text(block, encoding="utf-8")
    assert read_run(tmp_path / "run.yaml").name == "my cut"


def test_the_row_of_a_manifest_in_the_readme_is_read(tmp_path: Path) -> None:
    (row,) = re.findall(r"`(\{.*audio_filepath.*\})`", README)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / json.loads(row)["audio_filepath"], noise, 16_000)
    (tmp_path / "rows.jsonl").write_text(row + "\n", encoding="utf-8")
    (utterance,) = read_manifest(tmp_path / "rows.jsonl")
    assert (utterance.text, utterance.speaker) == ("what is said", "optional")


def test_the_commands_in_the_readme_are_those_of_the_command_line() -> None:
    commands: Any = get_command(import_module("core.cli").app)
    assert set(re.findall(r"`manifold ([a-z]+)", README)) == set(commands.commands)


def distributions(requirements: list[str]) -> set[str]:
    """Return the names of distributions, spelt one way."""
    names = [re.match(r"[\w.-]+", requirement) for requirement in requirements]
    return {re.sub(r"[-_.]+", "-", name.group()).lower() for name in names if name is not None}


def imported(*folders: str) -> set[str]:
    """Return the top-level modules that the files of some folders import, but for ours and Python's own."""
    modules: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {name.name.split(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.split(".")[0])
    return modules - {"app", "benchmarks", "core", "tests"} - sys.stdlib_module_names


@pytest.fixture(scope="module")
def providers() -> dict[str, set[str]]:
    """Return which distributions bring a module."""
    return {module: distributions(list(names)) for module, names in packages_distributions().items()}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = distributions(PROJECT["dependencies"])
EXTRAS = distributions([name for extra in PROJECT["optional-dependencies"].values() for name in extra])


def test_what_the_code_imports_is_listed_and_nothing_else(providers: dict[str, set[str]]) -> None:
    used = {module: providers[module] for module in imported("app", "core")}
    assert {module: names for module, names in used.items() if not names & NEEDED} == {}
    assert NEEDED - set().union(*used.values()) == set()


def test_what_the_tests_import_is_listed(providers: dict[str, set[str]]) -> None:
    unlisted = {module for module in imported("tests", "benchmarks") if not providers[module] & (NEEDED | EXTRAS)}
    assert unlisted == set()


def test_every_listed_package_has_a_version_that_was_tested() -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert (NEEDED | EXTRAS) - distributions(pinned) == set()


def test_the_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
