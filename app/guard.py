"""Who may ask the studio's server for anything: whoever has its token, from its own pages, by a name of this machine.

It stands before all that the server answers: pages, static files, media, uploads and the live connection.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from string import Template
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

COOKIE = "manifold_token"
"""What the browser keeps; the port follows, because browsers send the cookies of one port to all others."""

HOSTS = ("127.0.0.1", "localhost", "::1")
"""Names by which a browser on this machine, or at the other end of a tunnel, asks for the studio; with any port."""

HEALTH = "/_stcore/health"
"""Says that the server answers, and nothing else: it is asked for before there is a token, and by pages left open."""

MOST_FORM_BYTES = 4096
POLICY_VIOLATION = 1008

HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer. With 'no-referrer' browsers would send the form of the token with the origin 'null'."""

WHERE = (
    "The studio was started again and has a new token.\n"
    "Open the address that stands in the terminal\n"
    "which ran 'manifold serve', then load this page\n"
    "again."
)
"""For what is no page. Streamlit shows it in a page that was left open, if it is JSON."""

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?")
_ASK = Template((Path(__file__).parent / "token.html").read_text(encoding="utf-8"))


class Guard:
    """ASGI middleware that answers what may not pass."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        refused = await self._refused(scope, receive)
        if refused is None:
            return await self._app(scope, receive, _with_headers(send))
        if scope["type"] == "websocket":
            return await WebSocketClose(POLICY_VIOLATION)(scope, receive, send)
        await refused(scope, receive, _with_headers(send))

    async def _refused(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the answer to what may not pass, or None."""
        connection = HTTPConnection(scope)
        if not is_own_host(connection.headers.getlist("host")):
            return PlainTextResponse("The studio answers to 127.0.0.1 and localhost only.", HTTPStatus.FORBIDDEN)
        if not is_own_origin(connection.headers.getlist("origin"), connection.headers["host"]):
            return PlainTextResponse("The studio answers to its own pages only.", HTTPStatus.FORBIDDEN)
        if scope["type"] == "websocket":
            return None if self._known(connection) else Response()
        request = Request(scope, receive)
        if request.url.path.endswith(HEALTH) and request.method in ("GET", "HEAD"):
            return None
        if _is_form(request):
            return await self._take_form(request)
        if request.method == "GET" and "token" in request.query_params:
            return self._admitted(request, request.query_params.getlist("token")[-1])
        if self._known(connection):
            return None
        return self._ask(request) if _is_page(request) else JSONResponse(WHERE, HTTPStatus.UNAUTHORIZED)

    def _known(self, connection: HTTPConnection) -> bool:
        return is_token(connection.cookies.get(cookie_name(connection.headers["host"]), ""), self._token)

    async def _take_form(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_FORM_BYTES:
                return PlainTextResponse("That is no token.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return self._admitted(request, _token_in(body.decode("utf-8", errors="replace")))

    def _admitted(self, request: Request, token: str) -> Response:
        """Return the way to the same address without the token, which the browser then keeps."""
        if not is_token(token, self._token):
            return self._ask(request, "That is not the token of this studio, which is a new one at every start.")
        host = request.headers["host"]
        answer = RedirectResponse(_address_without_token(request), HTTPStatus.SEE_OTHER)
        # Lax, not strict: the studio is opened by a link from elsewhere, too. What changes something never is: such
        # requests carry an origin, which has to be the studio's own.
        answer.set_cookie(cookie_name(host), self._token, path="/", httponly=True, samesite="lax")
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _ask(self, request: Request, mistake: str = "") -> Response:
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'",
        }
        page = _ASK.substitute(mistake=mistake, action=_address_without_token(request))
        return HTMLResponse(page, HTTPStatus.UNAUTHORIZED, headers)


def cookie_name(host: str) -> str:
    """Return the name of the cookie of a studio that a browser calls by a host, which may have a port."""
    found = _HOST.fullmatch(host)
    return f"{COOKIE}_{found['port'] if found and found['port'] else 80}"


def is_token(given: str, token: str) -> bool:
    """Return whether a text is the token; however much of it is right, the answer takes the same time."""
    return bool(token) and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def has_token(cookies: Mapping[str, str], token: str) -> bool:
    """Return whether the token is among the cookies of a browser's live connection."""
    return any(is_token(value, token) for name, value in cookies.items() if name.startswith(f"{COOKIE}_"))


def is_own_host(hosts: Iterable[str]) -> bool:
    """Return whether a request names one host, which is this machine: a foreign name that leads here is an attack."""
    given = list(hosts)
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return found is not None and found["name"].strip("[]").lower() in HOSTS


def is_own_origin(origins: Iterable[str], host: str) -> bool:
    """Return whether a request comes from a page of the same host and port, or from no page at all."""
    given = list(origins)
    if not given:
        return True
    if len(given) > 1:
        return False
    try:
        origin = urlsplit(given[0])
    except ValueError:
        return False
    return origin.scheme in ("http", "https") and origin.netloc.lower() == host.lower()


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return request.method == "POST" and kind == "application/x-www-form-urlencoded"


def _is_page(request: Request) -> bool:
    return request.method == "GET" and request.headers.get("sec-fetch-mode", "navigate") == "navigate"


def _token_in(text: str) -> str:
    """Return the token of a form in which it, or the whole address, was pasted."""
    pasted = parse_qs(text).get("token", [""])[-1].strip()
    return parse_qs(urlsplit(pasted).query).get("token", [pasted])[-1] if "token=" in pasted else pasted


def _address_without_token(request: Request) -> str:
    # One slash: two would lead to another host.
    path = "/" + quote(request.url.path.lstrip("/\\"), safe="/~:@!$&'()*+,;=-._")
    kept = [(name, value) for name, value in parse_qsl(request.url.query, keep_blank_values=True) if name != "token"]
    return f"{path}?{urlencode(kept)}" if kept else path


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
