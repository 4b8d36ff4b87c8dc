"""A comprehension that calls the functions of a list, and one that makes them."""

on = "build.wanted"


def first(name):
    emit(f"first.{name}")


def second(name):
    emit(f"second.{name}")


def main(names):
    [function("known") for function in (first, second)]
    [first(name) for name in names if name]
    [emit(f"pair.{left}{right}") for left in "ab" for right in "cd" if left + right != "bc"]


# expects: ["first.known", "second.known", {"name": "first.*"}, "pair.ac", "pair.ad", "pair.bd"]
# first.known   emit  certain
# second.known  emit  certain
# first.*       emit  unknown
# pair.ac       emit  certain
# pair.ad       emit  certain
# pair.bd       emit  certain
