"""Names that come down through helpers."""

on = "upload.finished"


def first(kind):
    second("upload", kind)


def second(prefix, kind):
    third(name=f"{prefix}.{kind}")
    emit("second.done")


def third(name):
    emit(name)


def main():
    first("good")
    first("better")


# expects: ["upload.good", "second.done", "upload.better", "second.done"]
# upload.good    emit  certain
# upload.better  emit  certain
# second.done    emit  certain
