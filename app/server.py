"""The studio's server. ``manifold serve`` starts it and holds the other end of its standard input: what the server
shall be comes in there, its base path goes back, and its end is the end of the command, however that ended."""

import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from streamlit import config

from app.guard import HOSTS, Guard

LINE = 0
"""Standard input, a socket that is written to as well."""

END_SECONDS = 5.0

BASE_PATH = "STREAMLIT_SERVER_BASE_URL_PATH"

SETTINGS = {
    "browser.gatherUsageStats": False,
    "browser.serverAddress": "127.0.0.1",
    "client.allowedOrigins": [],
    "client.toolbarMode": "minimal",
    "global.developmentMode": False,
    "server.address": "127.0.0.1",
    "server.allowedHosts": list(HOSTS),
    "server.corsAllowedOrigins": [],
    "server.enableAgentApi": False,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.headless": True,
    "server.scriptHealthCheckEnabled": False,
    "server.sslCertFile": "",
    "server.sslKeyFile": "",
    "server.xsrfCookieSameSite": "lax",
}
"""What keeps the studio on this machine, and to itself. A user's own settings of Streamlit do not change it."""


def main() -> None:
    with os.fdopen(os.dup(LINE), "rb") as line:
        told = json.loads(line.readline())
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    # The pages look at it as well, in this process; what the process was started with shows it to nobody.
    os.environ["MANIFOLD_TOKEN"] = told["token"]
    guard = Middleware(Guard, token=told["token"])
    settings = {**SETTINGS, "server.port": told["port"], "browser.serverPort": told["port"]}
    if BASE_PATH in os.environ:
        settings["server.baseUrlPath"] = os.environ[BASE_PATH]
    st.App(Path(__file__).parent / "main.py", middleware=[guard], lifespan=_said).run(config=settings)


@asynccontextmanager
async def _said(app: st.App) -> AsyncIterator[None]:
    """Say where the pages are, which only now is known: it may stand in files of Streamlit's settings."""
    os.write(LINE, json.dumps({"base_path": config.get_option("server.baseUrlPath")}).encode() + b"\n")
    yield


def _end_with_the_command() -> None:
    while os.read(LINE, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
