"""Functions that remember what they were made with."""

on = "upload.finished"


def sender(prefix):
    def send(kind):
        emit(f"{prefix}.{kind}")

    return send


def main():
    up = sender("upload")
    down = sender("download")
    up("good")
    down("bad")
    sender("direct")("done")


# expects: ["upload.good", "download.bad", "direct.done"]
# upload.good   emit  certain
# download.bad  emit  certain
# direct.done   emit  certain
