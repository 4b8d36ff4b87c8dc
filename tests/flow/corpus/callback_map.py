"""`map` calls what it is given for each item, once something takes the results."""

on = "build.wanted"
STEPS = ["step.fetch", "step.compile"]


def tell(name):
    return emit(f"told.{name}")


def main(names):
    list(map(emit, STEPS))
    for handle in map(tell, ["a", "b"]):
        wait(handle)
    list(map(tell, names))


# expects: ["step.fetch", "step.compile", "told.a", "told.b", "told.*"]
# step.fetch    emit  certain
# step.compile  emit  certain
# told.a        emit  certain
# told.b        emit  certain
# told.*        emit  unknown
