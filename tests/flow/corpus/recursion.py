"""A walk through a tree in the task."""

on = "tree.given"


def walk(node):
    emit("node.seen", name=node["name"])
    for child in node["children"]:
        walk(child)
    emit("node.left")


def main(tree):
    walk(tree)


# expects: ["node.seen", "node.left"]
# node.seen  emit  certain
# node.left  emit  certain
