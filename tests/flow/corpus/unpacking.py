"""Names out of tuples, and one by `:=`."""

on = "upload.finished"


def main():
    first, *others = ["x.one", "x.two", "x.three"]
    emit(first)
    emit(others[1])
    left, right = "y.left", "y.right"
    left, right = right, left
    emit(left)
    if name := "z.named":
        emit(name)


# expects: ["x.one", "x.three", "y.right", "z.named"]
# x.one    emit  certain
# x.three  emit  certain
# y.right  emit  certain
# z.named  emit  certain
