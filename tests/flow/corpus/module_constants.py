"""Names made of constants of the module."""

on = "upload.finished"
PREFIX = "report"
READY = PREFIX + ".ready"
EMPTY = f"{PREFIX}.empty"


def main(rows):
    if rows:
        emit(READY, rows=rows)
    else:
        emit(EMPTY)


# expects: {"rows": "report.ready", "not rows": "report.empty"}
# report.ready  emit  possible
# report.empty  emit  possible
