"""A loop over what the task brings may have no turn."""

on = "table.read"


def main(rows):
    for row in rows:
        emit("row.found", row=row)
        if row["bad"]:
            emit("row.bad", row=row)
    emit("rows.done")


# expects: ["row.found", {"row['bad']": "row.bad"}, "rows.done"]
# row.found  emit  possible
# row.bad    emit  possible
# rows.done  emit  certain
