"""The page of a server that has tokens: nothing is shown to whoever has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from looking import Looker
from scriptrules.client import Client
from serving import Server, project

pytestmark = pytest.mark.browser


NOT_FOR_VIEWERS = {
    "now": {"resume", "step", "edit", "answer", "drop", "retry"},
    "breakpoints": {"Set", "Preview", "remove", "resume", "drop", "cancel"},
    "rules/asking": {"Send"},
    "variables": {"Set a variable", "Set a secret", "set", "remove"},
    "hosts": {"Drain"},
}


@pytest.fixture
def guarded() -> Iterator[tuple[Server, str, str]]:
    """A server, an admin's token and a viewer's."""
    with project() as server:
        server.rule("asking", 'on = "ask"\ndef main():\n    hold("a person decides")\n')
        server.config('[hosts.local]\nexecutor = "process"\nprograms = []\n')
        server.start()
        server.wait_run(server.send("ask"), {"held"})
        url = f"http://127.0.0.1:{server.port}"
        server.request("PUT", "/api/variables/quarter", b'{"value": "Q4"}')
        server.request("POST", "/api/breakpoints", b'{"on": ["stopped.*"], "name": "stopping"}')
        admin = Client(url).add_token("ada", "admin")["token"]
        viewer = Client(url, token=admin).add_token("vic", "viewer")["token"]
        yield server, admin, viewer


def test_one_signs_in_acts_by_name_and_signs_out(guarded: tuple[Server, str, str], context: BrowserContext) -> None:
    server, admin, viewer = guarded
    look = Looker(context.new_page(), server)
    look.quiet = True  # the browser tells of what was refused
    page = look.open("now")
    sign_in(look, "nonsense")
    look.told("no token of this server")
    sign_in(look, viewer)
    look.sees("a person decides")
    for route, verbs in NOT_FOR_VIEWERS.items():
        look.open(route)
        page.locator("main .panel, main .scroll").first.wait_for()
        assert not set(page.locator("main button").all_inner_texts()) & verbs
    run = Client(f"http://127.0.0.1:{server.port}", token=viewer).held(1)[0]["id"]
    look.open(f"runs/{run}")
    assert page.locator("main .head button").count() == 0
    leave(look)
    sign_in(look, admin)
    look.quiet = False
    look.sees("a person decides")
    page.locator(".lamp.live").wait_for()
    page.locator(".about").get_by_text("ada, admin").wait_for()
    for route, verbs in NOT_FOR_VIEWERS.items():
        look.open(route)
        page.locator("main .panel, main .scroll").first.wait_for()
        assert set(page.locator("main button").all_inner_texts()) & verbs
    look.open("now")
    look.press("resume")
    look.sees("Nothing is held.")
    (done,) = Client(f"http://127.0.0.1:{server.port}", token=admin).audit(1)
    assert (done["who"], done["verb"]) == ("ada", "resume")
    look.quiet = True
    leave(look)
    assert "a person decides" not in page.content()


def sign_in(look: Looker, token: str) -> None:
    look.page.locator("main [name=token]").fill(token)
    look.press("Sign in")


def leave(look: Looker) -> None:
    look.press("Sign out", ".about")
    look.sees("Sign in")
