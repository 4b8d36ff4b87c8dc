"""An example of wrong and right for each code of a finding that all rules together show (SR5xx)."""

from __future__ import annotations

_ANSWER = """\
on = "page.rendered"

def main(page):
    return page
"""

FLOW_EXAMPLES: dict[str, tuple[str, str]] = {
    "SR501": (
        """\
on = "invoice.wanted"

def main(number):
    emit("invoice.pritned", number=number)
""",
        """\
on = "invoice.wanted"

def main(number):
    emit("invoice.printed", number=number)  # scriptrules: ignore[SR501] (another system takes it from the list)
""",
    ),
    "SR502": (
        """\
on = ["order.sent", "order.paid"]

def main(task):
    if task.name == "order.sent":
        emit("order.payd")
""",
        """\
on = ["parcel.sent", "parcel.paid"]

def main(task):
    if task.name == "parcel.sent":
        emit("parcel.paid")
""",
    ),
    "SR503": (
        """\
on = "queue.looked_at"

def main():
    emit("queue.looked_at")
""",
        """\
on = "line.looked_at"

def main():
    sleep(60)
    emit("line.looked_at")
""",
    ),
    "SR504": (
        """\
def main(task):
    emit("audit.written", name=task.name)
""",
        """\
when = lambda task: task.name != "audit.noted"

def main(task):
    emit("audit.noted", name=task.name)
""",
    ),
    "SR505": (
        """\
on = "book.wanted"

def main(pages):
    return [call("page.rendred", page=page) for page in range(pages)]
""",
        _ANSWER,
    ),
    "SR506": (
        """\
on = ["price.asked", "offer.wanted"]

def main(task):
    return call("price.asked") if task.name == "offer.wanted" else 1

# and another rule has on = "price.asked" too: SR506 is told at the call
""",
        """\
on = "price.told"

def main():
    return 1
""",
    ),
    "SR507": (
        """\
on = "folder.counted"

def count(folder):
    return 1 + count(folder["parent"])

def main(folder):
    return count(folder)
""",
        """\
on = "folder.measured"

def count(folder):
    return 1 + count(folder["parent"]) if folder else 0

def main(folder):
    return count(folder)
""",
    ),
    "SR508": (
        """\
on = "report.wanted"

def main():
    run("nowhere", "report", "report-tool")
""",
        """\
on = "summary.wanted"

def main():
    run("local", "summary", "report-tool")  # with [hosts.local] in scriptrules.toml
""",
    ),
    "SR509": (
        """\
on = "report.made"

def main():
    run("local", "report", "report-tool", memroy_mb=256)
""",
        """\
on = "summary.made"

def main():
    run("local", "summary", "report-tool", memory_mb=256)
""",
    ),
    "SR510": (
        """\
on = "file.refused"

def main(reason):
    fail(reason)
    log("this is never said")
""",
        """\
on = "file.returned"

def main(reason):
    log(reason)
    fail(reason)
""",
    ),
    "SR512": (
        """\
on = "amount.given"

def main(amount):
    emit("amount.checked", amount=amount)  # and the store has an amount.refused that a run of this generated
""",
        """\
on = "amount.asked"

def main(amount):
    emit("amount.refused" if amount < 0 else "amount.checked", amount=amount)
""",
    ),
    "SR511": (
        """\
on = "upload.finished"
when = lambda task: task["sise"] > 0  # every task so far had a size, and none a sise

def main(size):
    return size
""",
        """\
on = "upload.finished"
when = lambda task: task["size"] > 0

def main(size):
    return size
""",
    ),
}
