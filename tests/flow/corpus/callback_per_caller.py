"""Each caller of `finish` passes a function of its own, and gets only what that one generates."""

on = "check.ended"


def good():
    emit("good.sent")


def bad():
    emit("bad.sent")


def finish(function):
    function()
    emit("finish.done")


def main(ok):
    if ok:
        finish(good)
    else:
        finish(bad)


# expects: {"ok": ["good.sent", "finish.done"], "not ok": ["bad.sent", "finish.done"]}
# good.sent    emit  possible
# bad.sent     emit  possible
# finish.done  emit  certain
