"""Cases that generate nothing: the first is needed to understand the second, the last is not there."""

on = "upload.finished"


def main(size):
    if size > 100:
        log("huge")
    elif size > 0:
        emit("upload.normal")
    else:
        log("empty")


# expects: {"size > 100": [], "size > 0": "upload.normal"}
# upload.normal  emit  possible
