"""A function that goes down four levels before it is called."""

on = "upload.finished"


def outer(function):
    middle(function, "deep")


def middle(function, name):
    inner(name, function=function)


def inner(name, *, function):
    innermost([function], name)


def innermost(functions, name):
    functions[0](name)


def send(name):
    emit(f"level.{name}")


def main():
    outer(send)


# expects: "level.deep"
# level.deep  emit  certain
