"""*args and **kwargs whose content is known."""

on = "upload.finished"


def send(name, *more, **data):
    emit(name, **data)
    for one in more:
        emit(one)


def route(**names):
    emit(names["ready"])


def main():
    send("a.one", "a.two", "a.three", size=1)
    send(*["b.one", "b.two"])
    route(ready="c.one")
    options = {"ready": "c.two"}
    route(**options)


# expects: ["a.one", "a.two", "a.three", "b.one", "b.two", "c.one", "c.two"]
# a.one    emit  certain
# a.two    emit  certain
# a.three  emit  certain
# b.one    emit  certain
# b.two    emit  certain
# c.one    emit  certain
# c.two    emit  certain
