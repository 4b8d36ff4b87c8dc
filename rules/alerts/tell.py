"""Tell whom the routing has chosen. `task` is the task itself: its name says the channel."""

on = ["mail.ops", "page.oncall"]


def main(task, text):
    return notify(task.name, text)
