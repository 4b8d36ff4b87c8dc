"""A loop over a list of the module, and items of it."""

on = "build.wanted"
STEPS = ["fetch", "compile", "test"]


def main(number):
    for step in STEPS:
        emit(f"step.{step}")
    emit(f"first.{STEPS[0]}")
    emit(f"last.{STEPS[-1]}")
    emit(f"nth.{STEPS[number]}")


# expects: [
#     "step.fetch", "step.compile", "step.test", "first.fetch", "last.test",
#     {"number == 0": "nth.fetch", "number == 1": "nth.compile", "number == 2": "nth.test"},
# ]
# step.fetch    emit  certain
# step.compile  emit  certain
# step.test     emit  certain
# first.fetch   emit  certain
# last.test     emit  certain
# nth.fetch     emit  possible
# nth.compile   emit  possible
# nth.test      emit  possible
