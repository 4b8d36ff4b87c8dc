"""A fallback with `main` generates like any other rule."""

nomatch = True


def main(task):
    emit("task.unknown", name=task.name)
    return Task("task.filed")


# expects: ["task.unknown", "task.filed"]
# task.unknown  emit    certain
# task.filed    return  certain
