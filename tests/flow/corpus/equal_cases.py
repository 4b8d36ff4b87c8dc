"""The same in all cases is no choice."""

on = "incident.opened"


def main(urgent, text):
    if urgent:
        emit("audit.written", text=text.upper())
    else:
        emit("audit.written", text=text)


# expects: "audit.written"
# audit.written  emit  certain
