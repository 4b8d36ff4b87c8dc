"""if, elif, else; and what comes after all of them."""

on = "upload.finished"


def main(size):
    if size > 100:
        emit("upload.huge")
    elif size > 0:
        emit("upload.normal")
    else:
        emit("upload.empty")
    emit("upload.seen")


# expects: [{"size > 100": "upload.huge", "size > 0": "upload.normal", "otherwise": "upload.empty"}, "upload.seen"]
# upload.huge    emit  possible
# upload.normal  emit  possible
# upload.empty   emit  possible
# upload.seen    emit  certain
