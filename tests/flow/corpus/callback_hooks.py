"""Functions as keyword arguments, read by name; one that may be missing."""

on = "work.wanted"


def perform(**hooks):
    hooks["before"]()
    emit("work.done")
    after = hooks.get("after")
    if after:
        after()


def main():
    perform(before=lambda: emit("before.one"))
    perform(before=lambda: emit("before.two"), after=lambda: emit("after.two"))


# expects: ["before.one", "work.done", "before.two", "work.done", "after.two"]
# before.one  emit  certain
# work.done   emit  certain
# before.two  emit  certain
# after.two   emit  certain
