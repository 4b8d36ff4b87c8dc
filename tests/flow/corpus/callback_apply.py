"""A function that applies others to what comes with them, itself included."""

on = "upload.finished"


def apply(function, *args, **kwargs):
    return function(*args, **kwargs)


def main(kind):
    apply(emit, "apply.plain", n=1)
    apply(apply, emit, "apply.twice")
    apply(apply, apply, emit, f"apply.{kind}", n=2)


# expects: ["apply.plain", "apply.twice", "apply.*"]
# apply.plain  emit  certain
# apply.twice  emit  certain
# apply.*      emit  unknown
