"""A handler that returns: the rest is for runs without that exception."""

on = "number.given"


def main(text):
    try:
        number = int(text)
    except ValueError:
        emit("number.bad")
        return
    emit("number.read", number=number)


# expects: {"except ValueError": "number.bad", "no exception": "number.read"}
# number.bad   emit  possible
# number.read  emit  possible
