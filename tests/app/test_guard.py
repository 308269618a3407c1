"""What stands before everything that the studio's server answers."""

import asyncio
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.guard import HEADERS, Guard, has_token

TOKEN = "VYw5R6hO-right_one"
HOST = "127.0.0.1:8501"
KEPT = {"host": HOST, "cookie": f"manifold_token_8501={TOKEN}"}
PATHS = (
    "/",
    "/run",
    "/_stcore/health",
    "/_stcore/host-config",
    "/_stcore/metrics",
    "/_stcore/upload_file/session/file",
    "/_stcore/agent/openapi.json",
    "/media/clip.flac",
    "/static/js/index.js",
    "/component/a/b",
    "/app/static/x",
    "/favicon.png",
    "/nothing/here",
)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str
    passed: bool


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for all that Streamlit serves."""
    scope["state"]["passed"] = True
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        return
    await PlainTextResponse("served")(scope, receive, send)


def ask(
    path: str = "/",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    method: str = "GET",
    query: str = "",
    body: bytes = b"",
    kind: str = "http",
) -> Answer:
    """Ask the guard as a server hands a request over."""
    sent: list[Any] = []
    given = headers if isinstance(headers, list) else list((headers or {"host": HOST}).items())
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
        "scheme": "http",
        "server": ("127.0.0.1", 8501),
        "state": {},
    }

    async def receive() -> Any:
        return {"type": f"{kind}.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(behind, token=TOKEN)(scope, receive, send))
    first = sent[0]
    got = {name.decode().lower(): value.decode() for name, value in first.get("headers", [])}
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    return Answer(first.get("status", 0), got, text, "passed" in scope["state"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_without_the_token_only_the_health_page_answers(path: str, method: str) -> None:
    answer = ask(path, method=method)
    assert answer.passed == (path == "/_stcore/health" and method in ("GET", "HEAD"))
    assert answer.passed or answer.status == 401


@pytest.mark.parametrize("path", PATHS)
def test_with_the_token_everything_answers_and_nothing_may_be_framed(path: str) -> None:
    answer = ask(path, KEPT)
    assert answer.passed
    assert answer.headers.items() >= {name.lower(): value for name, value in HEADERS.items()}.items()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8501",
        "127.0.0.1.evil.example:8501",
        "localhost.evil.example",
        "evil-localhost:8501",
        "127.0.0.1@evil.example",
        "127.0.0.1:8501@evil.example",
        "0.0.0.0:8501",
        "2130706433:8501",
        "127.1:8501",
        "[::ffff:127.0.0.1]:8501",
        "127.0.0.1:8501, evil.example",
        "127.0.0.1 evil.example",
        "",
    ],
)
def test_a_foreign_host_is_refused_on_every_path(path: str, kind: str, host: str) -> None:
    answer = ask(path, {**KEPT, "host": host}, kind=kind)
    assert not answer.passed
    assert answer.status == (403 if kind == "http" else 0)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_no_host_and_two_hosts_are_refused(kind: str) -> None:
    cookie = ("cookie", KEPT["cookie"])
    assert not ask("/", [cookie], kind=kind).passed
    assert not ask("/", [("host", HOST), ("host", "evil.example"), cookie], kind=kind).passed
    assert not ask("/", [("host", HOST), ("host", HOST), cookie], kind=kind).passed


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "LOCALHOST:8501", "[::1]:8501"])
def test_names_of_this_machine_are_its_own(host: str) -> None:
    assert ask("/", {**KEPT, "host": host}).passed


def test_a_tunnel_from_another_port_has_a_cookie_of_its_own() -> None:
    assert ask("/", {"host": "localhost:9000", "cookie": f"manifold_token_9000={TOKEN}"}).passed
    assert not ask("/", {"host": "localhost:9000", "cookie": f"manifold_token_8501={TOKEN}"}).passed


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:8502",
        "http://localhost:8501",
        "http://127.0.0.1:8501.evil.example",
        "http://127.0.0.1:8501@evil.example",
        "file://",
        "chrome-extension://127.0.0.1:8501",
        "http://[",
    ],
)
def test_a_foreign_origin_is_refused_on_every_path(path: str, kind: str, origin: str) -> None:
    assert not ask(path, {**KEPT, "origin": origin}, kind=kind).passed


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_its_own_pages_pass(kind: str) -> None:
    assert ask("/_stcore/stream", {**KEPT, "origin": f"http://{HOST}"}, kind=kind).passed
    assert not ask("/", [*KEPT.items(), ("origin", f"http://{HOST}"), ("origin", "http://b")], kind=kind).passed


@pytest.mark.parametrize("cookie", ["", "manifold_token_8501=", "manifold_token_8501=wrong", f"manifold_token={TOKEN}"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_wrong_token_does_not_pass(cookie: str, kind: str) -> None:
    assert not ask("/_stcore/stream", {"host": HOST, "cookie": cookie}, kind=kind).passed


def test_the_address_with_the_token_is_left_for_the_one_without_and_the_browser_keeps_it() -> None:
    answer = ask("/run", query=f"run=r%201&token={TOKEN}&tab=maps")
    assert (answer.status, answer.headers["location"]) == (303, "/run?run=r+1&tab=maps")
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (cookie.key, cookie.value, cookie["httponly"], cookie["samesite"]) == (
        "manifold_token_8501",
        TOKEN,
        True,
        "lax",
    )
    assert not cookie["expires"]
    assert not cookie["max-age"]
    assert answer.headers["cache-control"] == "no-store"
    assert TOKEN not in answer.body


@pytest.mark.parametrize(
    "path", ["//evil.example/a", "/\\evil.example", "///evil.example", "/a\r\nset-cookie: x=1", "/ä"]
)
def test_no_path_leads_elsewhere(path: str) -> None:
    location = ask(path, query=f"token={TOKEN}").headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert location.isascii()
    assert "\n" not in location


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.lower(), "ä", "\0"])
def test_a_page_says_where_the_token_is_and_takes_it(token: str) -> None:
    for answer in (
        ask("/run", query=urlencode({"run": "r1", "token": token})),
        ask("/run", FORM, method="POST", query="run=r1", body=urlencode({"token": token}).encode()),
    ):
        assert answer.status == 401
        assert "manifold serve" in answer.body
        assert "not the token of this studio" in answer.body
        assert 'action="/run?run=r1"' in answer.body
        assert "set-cookie" not in answer.headers


FORM = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("said", [TOKEN, f"  {TOKEN}\n", f"http://{HOST}/?token={TOKEN}"])
def test_the_token_or_the_whole_address_is_pasted(said: str) -> None:
    answer = ask("/run", FORM, method="POST", query="run=r1", body=urlencode({"token": said}).encode())
    assert (answer.status, answer.headers["location"]) == (303, "/run?run=r1")
    assert TOKEN in answer.headers["set-cookie"]


def test_a_foreign_page_cannot_fill_the_form() -> None:
    foreign = {**FORM, "origin": "http://evil.example"}
    assert ask("/", foreign, method="POST", body=f"token={TOKEN}".encode()).status == 403


def test_a_form_without_end_is_not_read() -> None:
    assert ask("/", FORM, method="POST", body=b"token=" + b"x" * 100_000).status == 413


def test_what_is_written_in_an_address_is_not_markup_on_the_page() -> None:
    answer = ask('/"><script>alert(1)</script>', query="run=%22%3E%3Cscript%3E")
    assert "<script" not in answer.body


def test_the_live_connection_is_looked_at_again_by_the_page() -> None:
    assert has_token({"other": "x", "manifold_token_8501": TOKEN}, TOKEN)
    assert not has_token({"manifold_token_8501": "x", "other": TOKEN}, TOKEN)
    assert not has_token({"manifold_token_8501": ""}, "")
