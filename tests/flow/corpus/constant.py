"""One name, written out."""

on = "upload.finished"


def main(file):
    emit("report.ready", file=file)


# expects: "report.ready"
# report.ready  emit  certain
