"""Three times the same is once; what alternates stays."""

on = "night.began"


def main():
    for number in [1, 2, 3]:
        emit("bell.rung", number=number)
    for name in ["a", "b"]:
        emit(f"watch.{name}")
        emit("bell.rung")


# expects: ["bell.rung", "watch.a", "bell.rung", "watch.b", "bell.rung"]
# bell.rung  emit  certain
# watch.a    emit  certain
# watch.b    emit  certain
