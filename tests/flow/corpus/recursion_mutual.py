"""Two functions that call one another until the data says stop."""

on = "number.given"


def even(n):
    emit("number.even")
    if n:
        odd(n - 1)


def odd(n):
    emit("number.odd")
    if n:
        even(n - 1)


def main(n):
    even(n)


# expects: ["number.even", {"n": "number.odd"}]
# number.even  emit  certain
# number.odd   emit  possible
