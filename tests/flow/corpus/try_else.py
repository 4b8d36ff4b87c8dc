"""What a `try` does without an exception, and what comes after it in any case."""

on = "number.given"


def main(text):
    try:
        number = int(text)
    except ValueError:
        number = 0
    else:
        emit("number.read")
    emit("number.used", number=number)


# expects: [{"no exception": "number.read"}, "number.used"]
# number.read  emit  possible
# number.used  emit  certain
