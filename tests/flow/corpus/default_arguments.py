"""Defaults of helpers, given and not given."""

on = "upload.finished"
KIND = "done"


def send(kind=KIND, *, prefix="report"):
    emit(f"{prefix}.{kind}")


def main():
    send()
    send("failed")
    send(prefix="audit")


# expects: ["report.done", "report.failed", "audit.done"]
# report.done    emit  certain
# report.failed  emit  certain
# audit.done     emit  certain
