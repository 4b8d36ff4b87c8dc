"""The task's own name, of which `on` says what it is."""

on = "upload.finished"


def main(task):
    emit(f"{task.name}.checked")
    if task.name == "upload.finished":
        emit("name.known")


# expects: ["upload.finished.checked", "name.known"]
# upload.finished.checked  emit  certain
# name.known               emit  certain
