"""Tasks made in a comprehension, one of them of names in the task."""

on = "step.one"


def main(names):
    if names:
        return [Task(f"named.{name}") for name in names]
    return [Task(f"part.{part}") for part in ["a", "b"] if part != "c"]


# expects: {"names": "named.*", "not names": ["part.a", "part.b"]}
# named.*  return  unknown
# part.a   return  possible
# part.b   return  possible
