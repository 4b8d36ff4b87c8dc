"""Functions in a dictionary, with another for the rest; the dictionary comes as an argument."""

on = "file.found"


def parse(file):
    emit("file.parsed", file=file)


def skip(file):
    emit("file.skipped", file=file)


def dispatch(table, key, *args):
    table.get(key, skip)(*args)


def main(suffix, file):
    dispatch({"csv": parse}, suffix, file)


# expects: {"key == 'csv'": "file.parsed", "otherwise": "file.skipped"}
# file.parsed   emit  possible
# file.skipped  emit  possible
