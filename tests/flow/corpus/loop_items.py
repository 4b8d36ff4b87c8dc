"""Loops over the parts of a dictionary."""

on = "night.began"
TARGETS = {"a": "x.first", "b": "x.second"}


def main():
    for name, target in TARGETS.items():
        emit(target, name=name)
    for name in TARGETS:
        emit(f"key.{name}")
    for target in TARGETS.values():
        emit(target + ".done")


# expects: ["x.first", "x.second", "key.a", "key.b", "x.first.done", "x.second.done"]
# x.first        emit  certain
# x.second       emit  certain
# key.a          emit  certain
# key.b          emit  certain
# x.first.done   emit  certain
# x.second.done  emit  certain
