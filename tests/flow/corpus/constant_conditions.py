"""Conditions that are decided before the run."""

on = "upload.finished"
DEBUG = False
VERSION = 2


def main(file):
    if DEBUG:
        emit("never.debug")
    emit("v2.ready" if VERSION >= 2 else "never.v1")
    for name in []:
        emit(f"never.{name}")
    while False:
        emit("never.looped")


# expects: "v2.ready"
# v2.ready  emit  certain
