"""A partial as a callback, through two levels."""

import functools

on = "table.read"


def each(items, do):
    for item in items:
        do(item)


def through(do):
    each(["first", "second"], do)


def tell(whom, item):
    emit(f"{whom}.{item}")


def main():
    through(functools.partial(tell, "ops"))


# expects: ["ops.first", "ops.second"]
# ops.first   emit  certain
# ops.second  emit  certain
