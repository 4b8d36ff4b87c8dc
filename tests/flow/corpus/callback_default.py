"""A function as the default of a parameter."""

on = "upload.finished"


def announce(kind):
    emit(f"announced.{kind}")


def finish(kind, then=announce):
    then(kind)


def main():
    finish("plainly")
    finish("otherwise", lambda kind: emit(f"told.{kind}"))
    finish("told.directly", then=emit)


# expects: ["announced.plainly", "told.otherwise", "told.directly"]
# announced.plainly  emit  certain
# told.otherwise     emit  certain
# told.directly      emit  certain
