"""A list of tasks that grows until it is returned, after what was emitted meanwhile."""

on = "step.one"


def main(more):
    tasks = [Task("first.made")]
    tasks.append(Task("second.made", n=2))
    if more:
        tasks.append(Task("third.made"))
    emit("tasks.counted", count=len(tasks))
    return tasks


# expects: ["tasks.counted", "first.made", "second.made", {"more": "third.made"}]
# tasks.counted  emit    certain
# first.made     return  certain
# second.made    return  certain
# third.made     return  possible
