"""A name of which `on` knows a part."""

on = "upload.*"


def main(task):
    emit(task.name + ".checked")
    if task.name == "download.finished":
        emit("never.download")


# expects: "upload.*.checked"
# upload.*.checked  emit  unknown
