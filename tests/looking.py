"""What the browser's tests look at: a store with something of everything, and a window to look at it."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, TimeoutError

from serving import Server, appending_program, eventually

BROWSERS = ("chromium", "chromium-browser")
DISTURBED = "ERR_NETWORK_CHANGED"  # an engine beside the browser gave a container an interface: what it loads fails
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'

SHOWN = "main[aria-busy=false] h1"

RULES = {
    "orders/check": '''"""Check an order, by a program, and have it paid."""

on = "order.new"
when = lambda task: task["size"] > 0 and task["kind"] != "void"

def main(size, kind="plain"):
    run("local", "job", PROGRAM, args=[RECORD, size])
    result = wait("job")
    log(f"{kind} order of {size}", kind=kind)
    for part in [1, 2]:
        call("order.price", part=part)
    emit("order.checked", size=size)
    return {"size": size}
''',
    "orders/price": 'on = "order.price"\ndef main(part):\n    return part * 10\n',
    "orders/paid": '"""Nothing more."""\non = "order.checked"\ndef main(size):\n    pass\n',
    "slow": """on = "slow.*"
def main(n):
    log("before")
    sleep(n)
    log("after")
    emit("slowed", n=n)
""",
    "slowed": 'on = "slowed"\ndef main(n):\n    return n\n',
    "asking": """on = "ask"
def main(amount):
    hold("a person decides")
    emit("granted", amount=amount)
""",
    "granted": 'on = "granted"\ndef main(amount):\n    return amount\n',
    "failing": """on = "fail.*"
def main(message):
    fail(message)
""",
    "broken": 'on = "broken"\ndef main(x):\n    return "é" is x\n',
    "warned": 'on = "warned"\ndef main(n):\n    emit("nobody.listens", n=n)\n    return m\n',
    "table": 'rules = [("copy", lambda task: task.name == "copied", lambda task: [{"task": "copies", "n": 1}])]\n',
    "hostile": """on = "hostile"
def main(text):
    log(text, field=text)
    emit("hosted", text=text)
    fail(text)
""",
}
CONFIG = """[sandbox]
workers = 2
[hosts.local]
executor = "process"
programs = ["{program}"]
max_running = 4
[[schedules]]
task = "nightly.start"
cron = "0 2 * * *"
"""


def fill(server: Server) -> None:
    """Start it, with tasks that went well, are held, wait, and have failed."""
    program, record = appending_program(server)
    server.config(CONFIG.format(program=program))
    for name, text in RULES.items():
        server.rule(name, text.replace("PROGRAM", repr(program)).replace("RECORD", repr(str(record))))
    server.start()
    for size in (1, 2):
        server.wait_task(server.send("order.new", size=size, kind="plain"))
    server.send("order.new", size=0, kind="void")
    server.send("unheard.of", a=1)
    server.send("slow.long", n=600)
    server.wait_task(server.send("fail.always", message="it cannot go well"))
    server.wait_task(server.send("hostile", text=HOSTILE))
    server.wait_run(server.send("ask", amount=5), {"held"})
    server.post("/api/breakpoints", on=["stopped.*"], name="stopping", who="ada")
    server.wait_task(server.send("stopped.here", size=3, customer={"name": "Ada"}), {"held"})
    server.request("PUT", "/api/variables/quarter", b'{"value": "Q4"}')
    server.request("PUT", "/api/variables/token", b'{"value": "hunter2", "secret": true}')
    eventually(lambda: server.all("tasks", name="order.checked", state="done"), "orders checked")


class Looker:
    """A window."""

    def __init__(self, page: Page, server: Server, base: str = "") -> None:
        self.page = page
        self.server = server
        self.base = base or f"http://127.0.0.1:{server.port}/"
        self.errors: list[str] = []
        self.disturbed = False
        self.quiet = False  # errors are expected now: the server is away
        page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._note(str(error)))

    def _note(self, text: str) -> None:
        self.disturbed = self.disturbed or DISTURBED in text
        if not self.quiet and "favicon" not in text and DISTURBED not in text:
            self.errors.append(text)

    def open(self, route: str) -> Page:
        """Go to a page, and wait until it has what it shows."""
        self.page.goto(f"{self.base}#/{route}")
        try:
            self.page.wait_for_selector(SHOWN)
        except TimeoutError:
            if not self.disturbed:
                raise
            self.page.reload()
            self.page.wait_for_selector(SHOWN)
        return self.page

    def text(self) -> str:
        return self.page.inner_text("main")

    def sees(self, text: str) -> Locator:
        """Wait until the page has a text."""
        found = self.page.locator("main").get_by_text(text).first
        found.wait_for()
        return found

    def press(self, name: str, within: str = "main") -> None:
        """Press the first button of this name."""
        self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()

    def confirm(self, button: str, /, **fields: str) -> None:
        """Fill in the dialog that is open, and press its button."""
        for field, value in fields.items():
            self.page.locator(f'dialog [name="{field}"]').fill(value)
        self.press(button, "dialog")
        self.page.locator("dialog").wait_for(state="detached")

    def told(self, text: str) -> None:
        """Wait for a message about what was done."""
        self.page.locator(".toast").filter(has_text=text).first.wait_for()


def routes(server: Server) -> dict[str, str]:
    """Every page, by a name for its picture."""
    order = next(task for task in server.all("tasks", name="order.new") if task["data"]["size"] == 2)
    run = server.run_of(order["id"])["id"]
    held = server.all("runs", state="held")[0]["id"]
    failed = server.all("runs", rule="failing")[0]["id"]
    return {
        "now": "now",
        "tasks": "tasks",
        "task": f"tasks/{order['id']}",
        "runs": "runs",
        "run": f"runs/{run}",
        "run-held": f"runs/{held}",
        "run-failed": f"runs/{failed}",
        "breakpoints": "breakpoints",
        "graph": "graph",
        "graph-way": f"graph?task={order['id']}",
        "matrix": "matrix",
        "rules": "rules",
        "rule": "rules/orders%2Fcheck",
        "rule-broken": "rules/broken",
        "hosts": "hosts",
        "variables": "variables",
        "incoming": "incoming",
        "plugins": "plugins",
        "audit": "audit",
        "search": "search?q=order",
    }
