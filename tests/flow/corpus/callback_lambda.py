"""Lambdas: named, called where they stand, with a condition inside."""

on = "upload.finished"


def main(size):
    act = lambda name: emit(f"act.{name}")
    act("named")
    (lambda: emit("act.inline"))()
    choose = lambda: emit("act.big") if size > 10 else emit("act.small")
    choose()


# expects: ["act.named", "act.inline", {"size > 10": "act.big", "size <= 10": "act.small"}]
# act.named   emit  certain
# act.inline  emit  certain
# act.big     emit  possible
# act.small   emit  possible
