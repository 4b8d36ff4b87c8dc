"""An example of wrong and right for each code of a finding; a test compiles every one that can be compiled."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, str]] = {
    "SR101": (
        """\
def main(:
    pass
""",
        """\
def main():
    pass
""",
    ),
    "SR102": (
        """\
TABLE = [[[[[[…a hundred brackets…]]]]]]
""",
        """\
from lib.tables import TABLE
""",
    ),
    "SR103": (
        """\
def main():
    try:
        emit("a")
    except* ValueError:
        log("no")
""",
        """\
def main():
    try:
        emit("a")
    except ValueError:
        log("no")
""",
    ),
    "SR104": (
        """\
async def main():
    await sleep(3)
""",
        """\
def main():
    sleep(3)
""",
    ),
    "SR105": (
        """\
class Order:
    size = 3

def main():
    return Order().size
""",
        """\
def main():
    order = {"size": 3}
    return order["size"]
""",
    ),
    "SR106": (
        """\
def pages(count):
    for page in range(count):
        yield page

def main():
    return list(pages(3))
""",
        """\
def pages(count):
    found = []
    for page in range(count):
        found.append(page)
    return found

def main():
    return pages(3)
""",
    ),
    "SR107": (
        """\
def main(file):
    with file:
        log("inside")
""",
        """\
def main(file):
    try:
        log("inside")
    finally:
        log("tidied up")
""",
    ),
    "SR108": (
        """\
COUNT = 0

def main():
    global COUNT
    COUNT = 1
""",
        """\
def main(count):
    return count + 1
""",
    ),
    "SR109": (
        """\
def main():
    try:
        sleep(3)
    except:
        log("failed")
""",
        """\
def main():
    try:
        sleep(3)
    except Exception:
        log("failed")
""",
    ),
    "SR110": (
        """\
def main():
    try:
        sleep(3)
    finally:
        return 1
""",
        """\
def main():
    try:
        sleep(3)
    finally:
        log("slept")
    return 1
""",
    ),
    "SR111": (
        """\
def _double(n):
    return 2 * n

def main(n):
    return _double(n)
""",
        """\
def double(n):
    return 2 * n

def main(n):
    return double(n)
""",
    ),
    "SR112": (
        """\
import requests

def main(url):
    return requests.get(url).text
""",
        """\
import json

def main(text):
    return json.loads(text)
""",
    ),
    "SR113": (
        """\
def expected():
    return ValueError

def main(text):
    try:
        return int(text)
    except expected():
        return 0
""",
        """\
def main(text):
    try:
        return int(text)
    except ValueError:
        return 0
""",
    ),
    "SR114": (
        """\
def main(task):
    task.note = "seen"
""",
        """\
def main(task):
    state = {}
    state["note"] = "seen"
    return state
""",
    ),
    "SR115": (
        """\
def main():
    return open("/etc/hostname").read()
""",
        """\
def main():
    run("local", "host", "hostname")
    return wait("host").stdout
""",
    ),
    "SR116": (
        """\
def main(value):
    match value:
        case dict(items=rows):
            return rows
""",
        """\
def main(value):
    match value:
        case dict():
            return list(value.items())
""",
    ),
    "SR117": (
        """\
def main(rows):
    [first, [*rest]] = rows
    return rest
""",
        """\
def main(rows):
    first, second = rows
    [*rest] = second
    return rest
""",
    ),
    "SR118": (
        """\
TABLE = {…many thousand entries…}
""",
        """\
from lib.tables import PART_ONE, PART_TWO
""",
    ),
    "SR119": (
        """\
rules/my rule.py, saved as Latin-1
""",
        """\
rules/my-rule.py, saved as UTF-8
""",
    ),
    "SR201": (
        """\
def main(size):
    return size is 3
""",
        """\
def main(size):
    return size == 3
""",
    ),
    "SR202": (
        """\
def main(names):
    return any(call("ask", name=name) for name in names)
""",
        """\
def main(names):
    return any([call("ask", name=name) for name in names])
""",
    ),
    "SR301": (
        """\
on = "upload.finished"

def handle(**kwargs):
    pass
""",
        """\
on = "upload.finished"

def main(**kwargs):
    pass
""",
    ),
    "SR302": (
        """\
prioritty = 5

def main():
    pass
""",
        """\
priority = 5

def main():
    pass
""",
    ),
    "SR303": (
        """\
on = "upload." + "finished"

def main():
    pass
""",
        """\
on = "upload.finished"

def main():
    pass
""",
    ),
    "SR304": (
        """\
priority = "high"

def main():
    pass
""",
        """\
priority = 5

def main():
    pass
""",
    ),
    "SR305": (
        """\
def main(*values):
    return values
""",
        """\
def main(**values):
    return values
""",
    ),
    "SR306": (
        """\
when = True

def main():
    pass
""",
        """\
when = lambda task: task["size"] > 0

def main():
    pass
""",
    ),
    "SR307": (
        """\
rules = {"copy": lambda task: True}
""",
        """\
rules = [("copy", lambda task: True, lambda task: [{"id": task["id"]}])]
""",
    ),
    "SR308": (
        """\
on = "upload finished"

def main():
    pass
""",
        """\
on = "upload.finished"

def main():
    pass
""",
    ),
    "SR321": (
        """\
on = "upload.*"
priority = 5
""",
        """\
on = "upload.*"
""",
    ),
    "SR322": (
        """\
on = "upload.*"
at = "around:run"
""",
        """\
on = "upload.*"
at = "before:run"
""",
    ),
    "SR310": (
        """\
on = "a"
on = "b"

def main():
    pass
""",
        """\
on = ["a", "b"]

def main():
    pass
""",
    ),
    "SR311": (
        """\
retries = {"times": 3}

def main(**kwargs):
    pass
""",
        """\
retries = {"max": 3, "backoff": 2.0}

def main(**kwargs):
    pass
""",
    ),
    "SR312": (
        """\
timeout = "1h"

def main(**kwargs):
    pass
""",
        """\
timeout = 3600

def main(**kwargs):
    pass
""",
    ),
    "SR313": (
        """\
limit = {"max": 1, "full": "wait"}

def main(**kwargs):
    pass
""",
        """\
limit = {"max": 1, "key": "customer", "full": "queue"}

def main(**kwargs):
    pass
""",
    ),
    "SR314": (
        """\
schedule = "0 0 30 2 *"

def main(**kwargs):
    pass
""",
        """\
schedule = "0 0 28 2 *"

def main(**kwargs):
    pass
""",
    ),
    "SR401": (
        """\
def main(size):
    log(f"{sise} bytes")
""",
        """\
def main(size):
    log(f"{size} bytes")
""",
    ),
    "SR402": (
        """\
def main():
    run("local", "report")
""",
        """\
def main():
    run("local", "report", "report-tool")
""",
    ),
    "SR403": (
        """\
def main():
    run("local", "report", "report-tool")
    return wait("raport").output
""",
        """\
def main():
    run("local", "report", "report-tool")
    return wait("report").output
""",
    ),
    "SR404": (
        """\
from lib.missing import shorten

def main(text):
    return shorten(text)
""",
        """\
def shorten(text):
    return text[:80]

def main(text):
    return shorten(text)
""",
    ),
    "SR405": (
        """\
def main(size):
    return size  # scriptrules: ignore[SR401]
""",
        """\
def main(size):
    return size
""",
    ),
    "SR406": (
        """\
def main(size):
    return size  # scriptrules: ignore[SR201]
""",
        """\
def main(size):
    return size
""",
    ),
    "SR600": (
        """\
def main():
    while True:
        log("still here")
""",
        """\
def main():
    while True:
        log("still here")
        sleep(60)
""",
    ),
    "SR601": (
        """\
import re

def main(text):
    return bool(re.fullmatch("(a+)+b", text))
""",
        """\
import re

def main(text):
    return bool(re.fullmatch("a+b", text[:1000]))
""",
    ),
    "SR602": (
        """\
timeout = 60

def main(**kwargs):
    run("local", "report", "report-tool")
    return wait("report").output
""",
        """\
timeout = 14400

def main(**kwargs):
    run("local", "report", "report-tool", timeout=3600)
    return wait("report").output
""",
    ),
}
