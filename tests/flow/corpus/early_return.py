"""What follows a return belongs to those who have not returned."""

on = "upload.finished"


def main(size, kind):
    if size == 0:
        emit("upload.empty")
        return
    if not kind:
        log("no kind")
        return
    emit("upload.accepted")


# expects: {"size == 0": "upload.empty", "kind": "upload.accepted"}
# upload.empty     emit  possible
# upload.accepted  emit  possible
