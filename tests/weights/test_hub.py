"""The Hub's client against a small server that speaks the part of the protocol that it needs."""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.errors import ModelError
from core.weights import check, resolve
from core.weights.hub import Hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"suppress_ids": []}',
    "model.bin": b"weights",
    "pytorch_model.bin": b"a pickle",
    "model.fp32-00001-of-00002.safetensors": b"a second copy",
    "run.py": b"raise SystemExit",
}


class FakeHub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        if path == "/":
            body = b"hub"
        elif path.startswith("/api/models/team/whisper/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "team/whisper", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/api/models/team/whisper/tree/"):
            body = json.dumps(
                [
                    {"type": "file", "path": name, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                    for name, c in FILES.items()
                ]
            ).encode()
        elif path.startswith("/team/whisper/resolve/"):
            body = FILES.get(path.rsplit("/", 1)[1])
        else:
            body = None
        if body is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the server here is no network
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Hub(endpoint=f"http://127.0.0.1:{server.server_port}", cache_folder=tmp_path / "cache", offline=False)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_downloaded_without_pickles_code_or_second_copies(hub: Hub):
    files = resolve("team/whisper", hub=hub)
    assert files.origin == "the Hub (team/whisper)"
    assert {path.name for path in files.folder.iterdir()} == {"config.json", "model.bin"}
    assert files.folder.name == COMMIT


def test_what_was_downloaded_once_is_found_when_the_hub_is_away(hub: Hub):
    folder = hub.download("team/whisper")
    away = Hub(endpoint="http://127.0.0.1:9", cache_folder=hub.cache_folder, offline=False)
    assert away.download("team/whisper") == folder
    assert check("team/whisper", hub=away) == "the Hub (team/whisper)"


def test_check_asks_without_downloading(hub: Hub):
    assert check("team/whisper", hub=hub) == "the Hub (team/whisper)"
    assert hub.cache_folder is not None
    assert not list(hub.cache_folder.rglob("model.bin"))


def test_a_model_that_the_hub_does_not_have_is_refused_with_what_it_said(hub: Hub):
    with pytest.raises(ModelError, match="it answered 404"):
        hub.check("team/nothing")
    with pytest.raises(ModelError, match="it refused or failed"):
        hub.download("team/nothing")


def test_a_hub_that_does_not_answer_costs_no_more_than_its_timeout(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = Hub(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, timeout_seconds=0.3, offline=False)
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"did not answer within 0\.3 s"):
            hub.download("team/whisper")
        with pytest.raises(ModelError, match=r"did not answer within 0\.3 s"):
            hub.check("team/whisper")
        assert time.monotonic() - began < 5


def test_a_hub_that_is_switched_off_is_not_asked(tmp_path: Path):
    hub = Hub("http://127.0.0.1:9", tmp_path, offline=True)
    with pytest.raises(ModelError, match="switched off"):
        hub.download("team/whisper")
    with pytest.raises(ModelError, match="switched off"):
        hub.check("team/whisper")


@pytest.mark.parametrize("name", ["", "a/b/c", "-x", "a b", "team/../x", "team/who?x=1"])
def test_what_is_no_hub_id_never_reaches_the_network(name: str):
    with pytest.raises(ModelError, match="not a Hub id"):
        Hub("http://127.0.0.1:9", offline=False).download(name)


def test_a_copy_in_the_cache_without_weights_is_told_as_incomplete_where_the_hub_is_away(hub: Hub):
    folder = hub.download("team/whisper")
    (folder / "model.bin").unlink()
    assert check("team/whisper", hub=hub) == "the Hub (team/whisper)"
    away = Hub(endpoint="http://127.0.0.1:9", cache_folder=hub.cache_folder, offline=False)
    with pytest.raises(ModelError, match=r"Its cache: .* holds no weights"):
        check("team/whisper", hub=away)


def test_the_hub_is_asked_with_the_token_of_whoever_is_logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(FakeHub, "log_request", lambda self, *_: seen.append(self.headers.get("Authorization")))
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    hub.check("team/whisper")
    assert "Bearer hf_of_somebody" in seen
