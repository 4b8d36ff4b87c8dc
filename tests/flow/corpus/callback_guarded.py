"""One function is tried, another called where it fails."""

on = "work.wanted"


def guarded(function, otherwise):
    try:
        return function()
    except Exception:
        return otherwise()


def main():
    guarded(lambda: emit("work.done"), lambda: emit("work.failed"))
    emit("work.over")


# expects: ["work.done", {"except Exception": "work.failed"}, "work.over"]
# work.done    emit  possible
# work.failed  emit  possible
# work.over    emit  certain
