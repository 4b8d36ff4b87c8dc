"""`Task` itself passed: what it makes counts where `main` returns it."""

on = "step.one"


def make(function, names):
    return [function(name, source="make") for name in names]


def main(names):
    if names:
        return make(Task, ["given.first", "given.second"])
    make(Task, ["never.returned"])
    return make(Task, ["none.given"])


# expects: {"names": ["given.first", "given.second"], "not names": "none.given"}
# given.first   return  possible
# given.second  return  possible
# none.given    return  possible
