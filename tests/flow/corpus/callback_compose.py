"""Functions made of functions."""

on = "upload.finished"


def compose(outer, inner):
    return lambda value: outer(inner(value))


def made(kind):
    return f"made.{kind}"


def main(kind):
    compose(emit, lambda text: "upload." + text)("ready")
    send = compose(emit, compose(lambda text: text + ".twice", made))
    send("ready")
    send(kind)


# expects: ["upload.ready", "made.ready.twice", "made.*.twice"]
# upload.ready      emit  certain
# made.ready.twice  emit  certain
# made.*.twice      emit  unknown
