"""The callee decides whether it calls; one caller's argument decides it before the run."""

on = "upload.finished"


def maybe(flag, function, otherwise=None):
    if flag:
        function()
    elif otherwise is not None:
        otherwise()


def main(size):
    maybe(True, lambda: emit("maybe.always"), lambda: emit("never.otherwise"))
    maybe(False, lambda: emit("never.called"))
    maybe(size > 0, lambda: emit("maybe.some"), lambda: emit("maybe.none"))
    maybe(size > 9, lambda: emit("maybe.many"))


# expects: ["maybe.always", {"flag": "maybe.some", "not flag": "maybe.none"}, {"flag": "maybe.many"}]
# maybe.always  emit  certain
# maybe.some    emit  possible
# maybe.none    emit  possible
# maybe.many    emit  possible
