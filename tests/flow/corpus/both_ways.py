"""One name in both cases is certain, the other is not."""

on = "incident.opened"


def main(urgent):
    if urgent:
        emit("page.sent")
        emit("audit.written")
    else:
        emit("audit.written")


# expects: {"urgent": ["page.sent", "audit.written"], "not urgent": "audit.written"}
# page.sent      emit  possible
# audit.written  emit  certain
