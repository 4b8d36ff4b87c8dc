"""A function that makes a function that makes a function."""

on = "upload.finished"


def first(a):
    def second(b):
        return lambda c: emit(f"{a}.{b}.{c}")

    return second


def use(make):
    make("second")("third")


def main(kind):
    use(first("first"))
    first("x")(kind)("z")


# expects: ["first.second.third", "x.*.z"]
# first.second.third  emit  certain
# x.*.z               emit  unknown
