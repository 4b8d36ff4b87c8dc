"""`emit` and `call` themselves passed, kept in a tuple, and under another name."""

on = "upload.finished"


def twice(function):
    function("a.one")
    function("a.two")


def main():
    twice(emit)
    pair = (emit, call)
    pair[0]("b.emitted")
    pair[1]("b.called")
    send = emit
    send("c.sent")


# expects: ["a.one", "a.two", "b.emitted", "b.called", "c.sent"]
# a.one      emit  certain
# a.two      emit  certain
# b.emitted  emit  certain
# b.called   call  certain
# c.sent     emit  certain
