"""functools.reduce with a function that emits, and a method of a list as a callback."""

from functools import reduce

on = "build.wanted"


def chain(previous, name):
    emit(f"{previous}.{name}")
    return name


def each(names, do):
    for name in names:
        do(name)


def main():
    reduce(chain, ["a", "b", "c"])
    collected = []
    each(["x.one", "x.two"], collected.append)
    for name in collected:
        emit(name)


# expects: ["a.b", "b.c", "x.one", "x.two"]
# a.b    emit  certain
# b.c    emit  certain
# x.one  emit  certain
# x.two  emit  certain
