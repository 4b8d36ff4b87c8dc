"""What no other rule matches is written down, with the reasons why the others did not."""

nomatch = True


def main(task):
    for rule, reason in task.reasons.items():
        log(f"{rule}: {reason}")
    return notify("unmatched", f"nothing is to be done for {task.name}")
