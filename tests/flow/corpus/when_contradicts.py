"""What the filter excludes cannot happen."""

on = "item.found"
when = lambda task: task["kind"] == "a" and task["size"] > 10


def main(task, kind, size):
    if kind == "b":
        emit("never.kind")
    else:
        emit("kind.a")
    if size < 5:
        emit("never.small")
    if task["size"] <= 10:
        emit("never.small")
    if size < 20:
        emit("size.medium")


# expects: {"task['kind'] == 'a' and task['size'] > 10": ["kind.a", {"size < 20": "size.medium"}]}
# kind.a       emit  certain
# size.medium  emit  possible
