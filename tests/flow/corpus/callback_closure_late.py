"""A lambda reads its loop's variable when it is called: by then the loop is over."""

on = "upload.finished"


def main():
    late = [lambda: emit(f"late.{name}") for name in ["a", "b"]]
    for function in late:
        function()
    early = [lambda name=name: emit(f"early.{name}") for name in ["a", "b"]]
    for function in early:
        function()


# expects: ["late.b", "early.a", "early.b"]
# late.b   emit  certain
# early.a  emit  certain
# early.b  emit  certain
