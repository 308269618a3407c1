"""What every test may use."""

import shutil

import pytest


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium; without one a browser test fails, and says how to get it."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("The browser tests need Chromium: apt-get install chromium", pytrace=False)
    return path
