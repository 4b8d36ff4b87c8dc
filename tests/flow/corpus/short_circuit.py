"""Effects that `and` and `or` decide about."""

on = "upload.finished"


def main(valid):
    valid and emit("upload.valid")
    valid or emit("upload.invalid")


# expects: [{"valid": "upload.valid"}, {"not valid": "upload.invalid"}]
# upload.valid    emit  possible
# upload.invalid  emit  possible
