"""Methods of known text give known text, those of unknown text do not."""

on = "report.wanted"
TITLE = "Report Ready"


def main(kind):
    emit(TITLE.lower().replace(" ", "."))
    emit(f"kind.{kind.lower()}")


# expects: ["report.ready", "kind.*"]
# report.ready  emit  certain
# kind.*        emit  unknown
