"""Polling: the body of `while True` runs at least once."""

on = "job.started"


def main():
    while True:
        state = call("poll.state")
        if state == "done":
            break
        emit("poll.again")
        sleep(60)
    emit("poll.done")


# expects: ["poll.state", {"state != 'done'": "poll.again"}, "poll.done"]
# poll.state  call  certain
# poll.again  emit  possible
# poll.done   emit  certain
