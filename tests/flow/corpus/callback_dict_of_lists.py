"""Pipelines: lists of functions in a dictionary."""

on = "build.wanted"


def fetch():
    emit("build.fetch")


def compile_all():
    emit("build.compile")


def report():
    emit("build.report")


PIPELINES = {"fast": [compile_all], "full": [fetch, report]}


def main(mode):
    for step in PIPELINES[mode]:
        step()


# expects: {"mode == 'fast'": "build.compile", "mode == 'full'": ["build.fetch", "build.report"]}
# build.compile  emit  possible
# build.fetch    emit  possible
# build.report   emit  possible
