"""A function passed to one that calls it for each row."""

on = "table.read"


def each(rows, do):
    for row in rows:
        do(row)


def tell(row):
    emit("row.told", row=row)


def main(rows):
    each(rows, tell)
    each([1, 2], lambda number: emit(f"number.{number}"))


# expects: ["row.told", "number.1", "number.2"]
# row.told  emit  possible
# number.1  emit  certain
# number.2  emit  certain
