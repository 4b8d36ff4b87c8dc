"""Names that the task brings."""

on = "table.read"


def main(names, target):
    for name in names:
        emit(f"child.{name}")
    emit(target)


# expects: ["child.*", "*"]
# child.*  emit  unknown
# *        emit  unknown
