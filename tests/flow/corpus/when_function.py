"""A filter of several statements."""

on = "upload.finished"


def when(task):
    if "size" not in task:
        return False
    return task["size"] > 0


def main(size):
    emit("upload.counted", size=size)


# expects: {"when(task)": "upload.counted"}
# upload.counted  emit  certain
