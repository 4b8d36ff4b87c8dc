"""A `while` with a condition may have no turn."""

on = "job.started"


def main(attempts):
    while attempts > 0:
        emit("attempt.made", left=attempts)
        attempts -= 1
    else:
        emit("attempts.over")


# expects: ["attempt.made", "attempts.over"]
# attempt.made   emit  possible
# attempts.over  emit  certain
