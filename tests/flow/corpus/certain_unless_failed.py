"""A run that does not fail has generated it."""

on = "upload.finished"


def main(file, size):
    if not file:
        raise ValueError("no file")
    if size < 0:
        fail("a negative size")
    emit("upload.named", file=file)


# expects: {"file": {"size >= 0": "upload.named"}}
# upload.named  emit  certain
