"""What holds for the project as a whole: what no file may do, and what the package needs."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from core.config import preset_names, read_preset
from core.config.base import Settings

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("app", "core") for path in (ROOT / folder).rglob("*.py"))

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
