"""A loss is added to a copy of the project as the documentation says: two files and one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SETTINGS = '''
"""Settings of the absolute difference."""

from typing import ClassVar, Literal

from core.config.losses.base import AlignmentSettings, Promise


class Absolute(AlignmentSettings):
    """The absolute difference of paired states."""

    kind: Literal["absolute"] = "absolute"

    promise: ClassVar[Promise] = "points"
    unit: ClassVar[str] = "mean absolute difference"
    meaning: ClassVar[str] = "Move each coordinate of a student state to the teacher's."
    formula: ClassVar[str] = "mean_i |h_i - g_i|_1 / width"
    source: ClassVar[str] = "a test"
'''

FORMULA = '''
"""The absolute difference of paired states."""

from core.config.losses.absolute import Absolute
from core.geometry import paired
from core.signals import States
from core.sums import Sum


def formula(settings: Absolute, student: States, teacher: States) -> Sum:
    """Return the absolute differences of all coordinates."""
    mine, theirs = paired(student.points, teacher.points)
    return Sum.of((mine - theirs).abs())
'''

LINE = "from core.config.losses.absolute import Absolute as Absolute\n"

LOOK = """
import json
from app.terms import UNITS
from core.config import method_rows, method_row, parse_run
from tests.app.test_forms import QUICK_START, opened

form = opened(QUICK_START["LoRA + CE"])
form.multiselect(key="form:method.losses").select("absolute").run()
form.number_input(key="form:method.losses.absolute.weight").set_value(3.5).run()
chosen = parse_run(form.session_state["values"]).method.losses
row = method_row("absolute")
print(json.dumps({
    "form": [(loss.kind, loss.weight) for loss in chosen],
    "methods": [each.key for each in method_rows()].count("absolute"),
    "row": [row.name, row.group, row.meaning],
    "terms": [loss["kind"] for loss in row.changes["method"]["losses"]],
    "unit": UNITS["absolute"],
}))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with one loss more."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("app", "core", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "core/config/losses/absolute.py").write_text(SETTINGS.lstrip(), encoding="utf-8")
    (copy / "core/losses/absolute.py").write_text(FORMULA.lstrip(), encoding="utf-8")
    listed = copy / "core/config/losses/__init__.py"
    before, mark, after = listed.read_text(encoding="utf-8").partition("# isort: on\n")
    assert mark
    listed.write_text(before + LINE + mark + after, encoding="utf-8")
    return copy


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run([sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True)


def test_it_appears_in_the_form_among_the_methods_and_over_its_curve(copied: Path) -> None:
    found = run(copied, "-c", LOOK)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1]) == {
        "form": [["cross_entropy", 1.0], ["absolute", 3.5]],
        "methods": 1,
        "row": ["+ absolute", "States", "Move each coordinate of a student state to the teacher's."],
        "terms": ["cross_entropy", "soft_labels", "absolute"],
        "unit": "mean absolute difference",
    }


def test_the_contract_tests_hold_it_to_what_every_loss_promises(copied: Path) -> None:
    tests = ("tests/losses/test_every_loss.py", "tests/test_team.py")
    found = run(copied, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "absolute or every_file", *tests)
    assert found.returncode == 0, found.stdout
    passed = int(found.stdout.splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed >= 14


def test_a_formula_that_breaks_its_promise_is_found(copied: Path) -> None:
    """A mean of squares of the whole batch is no mean over points: two processes would learn something else."""
    path = copied / "core/losses/absolute.py"
    sound = path.read_text(encoding="utf-8")
    path.write_text(sound.replace("Sum.of((mine - theirs).abs())", "Sum.single((mine - theirs).abs().mean())"))
    found = run(copied, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "absolute", "tests/test_team.py")
    path.write_text(sound, encoding="utf-8")
    assert found.returncode == 1
    assert "test_what_the_parts_of_a_batch_add_up_to_is_the_loss_of_the_batch" in found.stdout
