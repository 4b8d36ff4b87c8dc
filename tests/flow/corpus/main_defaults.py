"""A parameter with a default may still come with the task."""

on = "report.wanted"


def main(kind="daily"):
    emit(f"report.{kind}")


# expects: "report.*"
# report.*  emit  unknown
