"""A dictionary that the rule fills itself."""

on = "file.found"


def main(special):
    names = {"done": "file.done"}
    names["seen"] = "file.seen"
    if special:
        names["done"] = "special.done"
    emit(names["seen"])
    emit(names["done"])


# expects: ["file.seen", {"special": "special.done", "not special": "file.done"}]
# file.seen     emit  certain
# special.done  emit  possible
# file.done     emit  possible
