"""Nothing follows: a helper that nobody calls, a Task that nobody returns, code that nothing reaches."""

on = "upload.finished"


def never_called():
    emit("never.called")


def main(file):
    Task("never.returned", file=file)
    log(f"seen {file}")
    return {"file": file}
    emit("never.reached")


# expects: []
