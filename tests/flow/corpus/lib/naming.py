"""Names that several rules share."""

PREFIX = "named"
READY = "lib.ready"


def named(*parts):
    return ".".join([PREFIX, *parts])


def tell(whom, how=emit):
    how(f"tell.{whom}")
