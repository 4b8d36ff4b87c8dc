"""functools.partial of injected functions, of helpers, and of other partials."""

from functools import partial

on = "upload.finished"


def send(prefix, kind, *, suffix="done"):
    emit(f"{prefix}.{kind}.{suffix}")


def main(kind):
    ready = partial(emit, "report.ready", n=1)
    ready()
    upload = partial(send, "upload")
    upload("good")
    failed = partial(upload, suffix="failed")
    failed("bad")
    failed(kind)


# expects: ["report.ready", "upload.good.done", "upload.bad.failed", "upload.*.failed"]
# report.ready       emit  certain
# upload.good.done   emit  certain
# upload.bad.failed  emit  certain
# upload.*.failed    emit  unknown
