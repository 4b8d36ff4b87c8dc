"""Decorators: one of the file, and one of a library that takes an argument."""

from lib.flowing import announced

on = "work.wanted"


def logged(function):
    def inner(*args):
        emit("log.begun")
        return function(*args)

    return inner


@logged
def work(kind):
    emit(f"work.{kind}")


@announced("rest")
def rest():
    emit("rest.taken")


def main():
    work("done")
    rest()


# expects: ["log.begun", "work.done", "named.rest.begun", "rest.taken", "named.rest.ended"]
# log.begun         emit  certain
# work.done         emit  certain
# named.rest.begun  emit  certain
# rest.taken        emit  certain
# named.rest.ended  emit  certain
