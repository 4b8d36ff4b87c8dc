"""Functions in a list that the rule makes, one of them under a condition."""

on = "upload.finished"


def first():
    emit("first.sent")


def second():
    emit("second.sent")


def main(extra):
    steps = [first]
    if extra:
        steps.append(second)
    for step in steps:
        step()


# expects: ["first.sent", {"extra": "second.sent"}]
# first.sent   emit  certain
# second.sent  emit  possible
