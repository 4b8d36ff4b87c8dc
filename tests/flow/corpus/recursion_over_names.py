"""A recursion whose end is known before the run."""

on = "chain.wanted"


def chain(names):
    if not names:
        return
    emit(names[0])
    chain(names[1:])


def main():
    chain(["chain.first", "chain.second"])


# expects: ["chain.first", "chain.second"]
# chain.first   emit  certain
# chain.second  emit  certain
