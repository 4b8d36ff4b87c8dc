"""`continue` leaves the turn, and not the loop."""

on = "table.read"


def main(rows):
    for row in rows:
        if not row:
            continue
        emit("row.found", row=row)
    emit("rows.done")


# expects: [{"row": "row.found"}, "rows.done"]
# row.found  emit  possible
# rows.done  emit  certain
