"""A task as the return value; the value of another path is data."""

on = "step.one"


def main(last):
    if last:
        return {"steps": 1}
    return Task("step.two", number=2)


# expects: {"not last": "step.two"}
# step.two  return  possible
