"""A choice within the argument, and one within the text."""

on = "incident.opened"


def main(severity, kind):
    emit("ops.page" if severity > 3 else "ops.mail")
    emit(f"kind.{'known' if kind else 'none'}")
    emit(kind or "kind.missing")


# expects: [
#     {"severity > 3": "ops.page", "severity <= 3": "ops.mail"},
#     {"kind": "kind.known", "not kind": "kind.none"},
#     {"kind": "*", "not kind": "kind.missing"},
# ]
# ops.page      emit  possible
# ops.mail      emit  possible
# kind.known    emit  possible
# kind.none     emit  possible
# *             emit  unknown
# kind.missing  emit  possible
