"""Names put together in the other ways."""

on = "report.wanted"


def main(kind):
    emit("report.%s.done" % kind)
    emit(".".join(["audit", kind, "v2"]))
    text = "log"
    text += "."
    text += kind
    emit(text)
    emit(f"const.{'a'}{1 + 1}")


# expects: ["report.*.done", "audit.*.v2", "log.*", "const.a2"]
# report.*.done  emit  unknown
# audit.*.v2     emit  unknown
# log.*          emit  unknown
# const.a2       emit  certain
