"""The other half of `verify`: an upload without content is nothing to report, but somebody should know."""

on = "upload.finished"
when = lambda task: len(task["content"]) == 0


def main(file, **kwargs):
    emit("ops.alert", severity="low", text=f"the upload {file} is empty")
