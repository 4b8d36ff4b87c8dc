"""Functions that are passed and never called."""

on = "upload.finished"


def ignore(function, other=emit):
    return function


def tell():
    emit("never.told")


def main():
    ignore(tell)
    ignore(lambda: emit("never.lambda"), emit)
    kept = {"tell": tell, "emit": emit}
    return sorted(kept)


# expects: []
