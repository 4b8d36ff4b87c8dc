"""The filter is the label around everything, and takes nothing from certainty."""

on = "upload.finished"
when = lambda task: task["size"] > 0


def main(size):
    emit("upload.counted", size=size)
    if size > 100:
        emit("upload.huge")


# expects: {"task['size'] > 0": ["upload.counted", {"size > 100": "upload.huge"}]}
# upload.counted  emit  certain
# upload.huge     emit  possible
