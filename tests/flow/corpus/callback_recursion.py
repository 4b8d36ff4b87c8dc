"""A walk that takes its visitor along."""

on = "tree.given"


def walk(node, visit, depth=0):
    visit(node)
    for child in node["children"]:
        walk(child, visit, depth + 1)


def main(tree):
    walk(tree, lambda node: emit("node.visited", name=node["name"]))
    walk(tree, lambda node: emit(f"node.{node['name']}"))


# expects: ["node.visited", "node.*"]
# node.visited  emit  certain
# node.*        emit  unknown
