"""Functions that take functions."""

from lib.naming import named

REGIONS = ("north", "south")


def each_region(do):
    for region in REGIONS:
        do(region)


def both(first, second):
    first()
    second()


def announced(kind):
    def decorate(function):
        def inner(*args, **kwargs):
            emit(named(kind, "begun"))
            result = function(*args, **kwargs)
            emit(named(kind, "ended"))
            return result

        return inner

    return decorate
