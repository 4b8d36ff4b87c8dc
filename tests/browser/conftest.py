"""A real browser and a real server for each module; what a page says on its console is a failure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from looking import BROWSERS, Looker, fill
from serving import Server, project


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium; scripts/setup test installs Debian's")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"]
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server whose store has something of everything."""
    with project() as server:
        fill(server)
        yield server


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1400, "height": 900})
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def look(context: BrowserContext, server: Server) -> Iterator[Looker]:
    """A window on the server; the test fails where its console had errors."""
    looker = Looker(context.new_page(), server)
    yield looker
    assert looker.errors == []


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go, for people to look at."""
    folder = Path(__file__).resolve().parent.parent / "output" / "page"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
