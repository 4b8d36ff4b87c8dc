"""Every page in a real browser: what it shows, light and dark, at 400 and 2,000 pixels, by keys, to who cannot see."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from looking import HOSTILE, Looker, routes
from serving import Server, eventually, project

pytestmark = pytest.mark.browser
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")
SHOWN = {  # what stands on each page
    "now": ["Held", "Under way", "Failed", "breakpoint:stopping", "it cannot go well"],
    "tasks": ["order.new", "unheard.of", "unmatched"],
    "task": ["What followed", "orders/check", "order.checked", "Why rules match, or not", "task['kind'] != 'void'"],
    "runs": ["orders/check", "failing", "it cannot go well"],
    "run": ["rules/orders/check.py", "Journal", "plain order of 2", "order.price", "once"],
    "run-held": ["held", "a person decides", "resume"],
    "run-failed": ["it cannot go well", "line 3"],
    "breakpoints": ["stopping", "stopped.*", "Preview", "stopped.here"],
    "graph": ["orders/check", "order.price", "seen, not predicted"],
    "graph-way": ["order.new"],
    "matrix": ["from outside", "orders/price"],
    "rules": ["orders/check", "broken", "1 warning"],
    "rule": ["Check an order", "Send a test task", "active"],
    "rule-broken": ["SR201", "not active"],
    "hosts": ["local", "process", "reachable"],
    "variables": ["quarter", "Q4", "token", "secret, value 1"],
    "incoming": ["nightly.start", "0 2 * * *"],
    "plugins": ["builtin", "process"],
    "audit": ["stopping", "ada", "break"],
    "search": ["orders/check", "order.checked"],
}


def test_each_page_shows_what_it_is_for(look: Looker, server: Server) -> None:
    for name, route in routes(server).items():
        page = look.open(route)
        if name == "run":
            page.locator(".source .call").first.click()  # what an entry did is in its panel
        for text in SHOWN[name]:
            page.locator("main").get_by_text(text).first.wait_for(state="attached")
        assert page.title().endswith("scriptrules")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_violation_of_wcag_aa(browser: Browser, server: Server, scheme: str, pictures: Path) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    look = Looker(context.new_page(), server)
    found = {}
    for name, route in routes(server).items():
        page = look.open(route)
        page.wait_for_timeout(150)
        page.screenshot(path=pictures / f"{name}-{scheme}.png")
        found[name] = violations(page)
    context.close()
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert look.errors == []


def violations(page: Page) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("tags => axe.run({runOnly: tags}).then(found => found.violations)", tags)
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"][:2]]


def test_a_dialog_has_no_violation(look: Looker, server: Server) -> None:
    page = look.open("breakpoints")
    look.press("edit", ".panel[aria-label=Held]")
    page.locator("dialog").wait_for()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


@pytest.mark.parametrize("width", [400, 2000])
def test_no_page_is_wider_than_its_window(browser: Browser, server: Server, width: int, pictures: Path) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    look = Looker(context.new_page(), server)
    wide = {}
    for name, route in routes(server).items():
        page = look.open(route)
        page.wait_for_timeout(100)
        page.screenshot(path=pictures / f"{name}-{width}.png")
        over = page.evaluate(OVER)
        if over > 0:
            wide[name] = over
    context.close()
    assert wide == {}
    assert look.errors == []


OVER = """() => Math.max(  // pixels by which the page, or a list in it, is wider than there is room
    document.documentElement.scrollWidth - window.innerWidth,
    ...[...document.querySelectorAll(".scroll:has(.rows)")].map(list => list.scrollWidth - list.clientWidth))"""


def test_hostile_text_is_text(look: Looker, server: Server) -> None:
    task = server.all("tasks", name="hostile")[0]
    run = server.run_of(task["id"])
    for route in ("now", "tasks", f"tasks/{task['id']}", "runs", f"runs/{run['id']}", "audit"):
        page = look.open(route)
        page.locator("main").get_by_text("<img src=x").first.wait_for(state="attached") if route != "audit" else None
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("window.hacked") is None
    page = look.open(f"runs/{run['id']}")
    page.locator(".log").get_by_text(HOSTILE).first.wait_for()
    page = look.open("search?q=%3Cimg%20src%3Dx%20onerror%3D%22window.hacked%3D1%22%3E")
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img").count() == 0


def test_the_policy_forbids_what_is_inline_or_from_elsewhere(look: Looker, server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for path in ("/", "/static/app.js", "/static/look.css"):
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        policy = str(answer.headers["content-security-policy"])
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text
        assert answer.headers["x-content-type-options"] == "nosniff"
    connection.close()
    page = look.open("now")
    look.quiet = True  # the browser tells of what it has refused
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=y onerror=\"window.hacked=1\">')")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None


PREFIX = "/tools/rules"


@pytest.fixture
def behind_prefix(server: Server) -> Iterator[str]:
    """The server behind a proxy that serves it under a path."""

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if length else None
            connection.request(self.command, self.path.removeprefix(PREFIX), body, dict(self.headers))
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date"):
                    self.send_header(name, value)
            self.end_headers()
            try:
                while part := answer.read1(65536):
                    self.wfile.write(part)
                    self.wfile.flush()
            except OSError:
                pass
            finally:
                connection.close()

        do_POST = do_GET

    class Proxies(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A browser that goes away is none."""

    proxy = Proxies(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{proxy.server_port}{PREFIX}/"
    proxy.shutdown()
    proxy.server_close()
    thread.join()


def test_the_page_works_behind_a_path_prefix(browser: Browser, server: Server, behind_prefix: str) -> None:
    context = browser.new_context()
    look = Looker(context.new_page(), server, behind_prefix)
    look.open("rules/slowed")
    look.page.locator("[name=data]").fill('{"n": 7}')
    look.press("Send")
    look.page.wait_for_url("**/tools/rules/#/tasks/*")
    look.sees("done")
    context.close()
    assert look.errors == []


def test_keys_lead_everywhere(look: Looker, server: Server) -> None:
    page = look.open("tasks")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("orders/ch")
    page.keyboard.press("Enter")
    page.wait_for_url("**/#/search?q=*")
    look.sees("Search: orders/ch")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "orders/check"
    page.keyboard.press("Enter")
    look.sees("Check an order")
    page = look.open("tasks")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    second = page.locator("main tbody tr").nth(1).locator("a").first.get_attribute("href")
    assert page.evaluate("document.activeElement.getAttribute('href')") == second
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_an_id_in_the_search_opens_what_it_is(look: Looker, server: Server) -> None:
    run = server.all("runs", rule="failing")[0]["id"]
    page = look.open("now")
    page.locator("#search input").fill(run)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/#/runs/{run}")
    look.sees("it cannot go well")


def test_the_theme_is_remembered(look: Looker, server: Server) -> None:
    page = look.open("now")
    for expected in ("light", "dark"):
        page.locator("#theme").click()
        assert page.evaluate("document.documentElement.dataset.theme") == expected
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = page.evaluate(
        "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.documentElement).backgroundColor"
    )
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") is None
    assert dark != page.evaluate(
        "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.documentElement).backgroundColor"
    )


def test_what_is_not_there_is_said_so(look: Looker, server: Server) -> None:
    look.quiet = True  # the browser tells of each 404
    for route, text in (
        ("tasks/t0nothing", "There is no task"),
        ("runs/r0nothing", "There is no run"),
        ("nowhere", "no such page"),
        ("rules/none", "no such rule"),
    ):
        look.open(route)
        look.sees(text)


def test_a_cell_of_the_matrix_opens_the_runs_behind_it(look: Looker, server: Server) -> None:
    page = look.open("matrix")
    page.get_by_role("link", name="orders/check ran orders/price").click()
    look.sees("Caused by rule")
    assert page.locator("main tbody tr").count() == 4
    page = look.open("matrix")
    page.get_by_role("link", name="outside ran orders/check").click()
    look.sees("Caused by rule")
    assert page.locator("main tbody tr").count() == 2


def test_the_graph_can_be_walked_by_keys_and_clicks(look: Looker, server: Server) -> None:
    page = look.open("graph")
    node = page.locator('.node.rule[data-id="orders/check"]')
    node.wait_for()
    node.focus()
    page.keyboard.press("Enter")
    side = page.locator(".graph aside")
    side.get_by_text("order.price").first.wait_for()
    assert "certain" in side.inner_text()
    before = page.locator(".node").count()
    side.get_by_label("only what is next to it").check()
    eventually(lambda: page.locator(".node").count() < before, "only what is next to it")
    view = page.locator(".drawing > g").get_attribute("transform")
    page.locator(".drawing").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    eventually(lambda: page.locator(".drawing > g").get_attribute("transform") != view, "moved")
    side.get_by_role("link", name="orders/check").click()
    look.sees("Check an order")


def test_of_a_large_installation_the_busiest_is_drawn_and_the_rest_is_found(browser: Browser) -> None:
    rule = 'on = "t.{0}"\ndef main(n):\n    emit("t.{1}", n=n)\n    emit("t.{2}", n=n)\n'
    with project() as server:
        for n in range(130):
            server.rule(f"area/rule{n:03}", rule.format(n, (n * 7 + 1) % 130, (n * 3 + 2) % 130))
        server.start()
        context = browser.new_context()
        look = Looker(context.new_page(), server)
        page = look.open("graph")
        look.sees("200 of 260 rules and tasks")
        assert page.locator(".node").count() == 200
        assert page.locator(".edge").count() > 200
        drawn = set(page.locator(".node.rule").evaluate_all("nodes => nodes.map(node => node.dataset.id)"))
        hidden = next(name for n in range(130) if (name := f"area/rule{n:03}") not in drawn)
        page.get_by_label("Find a rule or a task in the graph").fill(hidden)
        page.keyboard.press("Enter")
        page.locator(f'.node.chosen[data-id="{hidden}"]').wait_for()
        eventually(lambda: page.locator(".node").count() < 20, "only what is next to it")
        page = look.open("matrix")
        look.sees("the busiest 60 of 130 rows")
        assert page.locator(".matrix tbody tr").count() == 60
        page.get_by_label("Rules of which the name has this").fill(hidden)
        page.locator(".matrix").get_by_role("link", name=f"{hidden} ran").first.wait_for()
        context.close()
        assert look.errors == []


def test_squiggles_stand_under_what_is_wrong(look: Looker, server: Server) -> None:
    page = look.open("rules/broken")
    page.locator(".squiggle").first.wait_for()
    assert "".join(page.locator(".squiggle").all_inner_texts()) == '"é" is x'


def test_the_page_is_there_with_and_without_the_path_of_a_proxy() -> None:
    with project() as server:
        server.config('[server]\nroot_path = "/tools/rules"\n')
        server.start()
        for prefix in ("", "/tools/rules"):
            for path in ("/", "/static/app.js", "/static/pages/now.js"):
                assert status(server, prefix + path) == 200
            for path in ("/static/nothing.js", "/static/../pages.py", "/static/%2e%2e/pages.py", "/static/"):
                assert status(server, prefix + path) == 404


def status(server: Server, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status
