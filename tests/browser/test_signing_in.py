"""The page of a server that has tokens: nothing is shown to whoever has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from looking import Looker
from scriptrules.client import Client
from serving import Server, project

pytestmark = pytest.mark.browser


@pytest.fixture
def guarded() -> Iterator[tuple[Server, str, str]]:
    """A server, an admin's token and a viewer's."""
    with project() as server:
        server.rule("asking", 'on = "ask"\ndef main():\n    hold("a person decides")\n')
        server.start()
        server.wait_run(server.send("ask"), {"held"})
        url = f"http://127.0.0.1:{server.port}"
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
    look.press("resume")
    look.told("needs the role operator")
    leave(look)
    sign_in(look, admin)
    look.quiet = False
    look.sees("a person decides")
    page.locator(".lamp.live").wait_for()
    page.locator(".about").get_by_text("ada, admin").wait_for()
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
