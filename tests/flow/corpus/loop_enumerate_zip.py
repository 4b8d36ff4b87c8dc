"""Loops over what enumerate, zip and range make of literals."""

on = "night.began"


def main(count):
    for number, (first, second) in enumerate(zip(["in", "out"], ["read", "write"])):
        emit(f"{first}.{second}.{number}")
    for number in range(1, 3):
        emit(f"attempt.{number}")
    for number in range(count):
        emit(f"page.{number}")


# expects: ["in.read.0", "out.write.1", "attempt.1", "attempt.2", "page.*"]
# in.read.0    emit  certain
# out.write.1  emit  certain
# attempt.1    emit  certain
# attempt.2    emit  certain
# page.*       emit  unknown
