"""Names that the rule does not match cannot be the task's name."""

on = ["order.created", "order.paid"]


def main(task):
    if task.name == "order.created":
        emit("stock.reserve")
    else:
        emit("stock.ship")
    if task.name == "order.lost":
        emit("never.lost")


# expects: {"task.name == 'order.created'": "stock.reserve", "task.name != 'order.created'": "stock.ship"}
# stock.reserve  emit  possible
# stock.ship     emit  possible
