"""Names with parts that only run time knows."""

on = "report.wanted"


def main(kind, number):
    emit(f"report.{kind}")
    emit(f"page.{number:03}.of.{kind}")
    emit("x." + kind + kind)


# expects: ["report.*", "page.*.of.*", "x.*"]
# report.*     emit  unknown
# page.*.of.*  emit  unknown
# x.*          emit  unknown
