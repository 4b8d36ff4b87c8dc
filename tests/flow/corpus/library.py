"""Names and functions of a library."""

from lib.naming import READY, named, tell

on = "upload.finished"


def main(kind):
    emit(READY)
    emit(named("upload", kind))
    tell("ops")


# expects: ["lib.ready", "named.upload.*", "tell.ops"]
# lib.ready       emit  certain
# named.upload.*  emit  unknown
# tell.ops        emit  certain
