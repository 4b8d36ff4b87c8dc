"""Loops that a run may leave in their midst, or never enter."""

on = "table.read"


def main(rows, count):
    for row in rows:
        emit("row.found", row=row)
        if row == 0:
            raise ValueError("an empty row")
        emit("row.good")
    while count > 0:
        count -= 1
        emit("count.asked")
        if rows:
            return
        emit("count.down")
    emit("count.done")


# expects: [
#     "row.found",
#     {"row != 0": ["row.good", "count.asked", {"not rows": ["count.down", "count.done"]}]},
# ]
# row.found    emit  possible
# row.good     emit  possible
# count.asked  emit  possible
# count.down   emit  possible
# count.done   emit  possible
