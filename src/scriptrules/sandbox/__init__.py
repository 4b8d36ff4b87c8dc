"""Where rule code runs: behind a language wall (`policy`, `guards`), a process wall (`confine`) and a budget.

`worker` and `interpreter` run inside the confined process, `pool` and `nursery` in the supervisor; `wire` is what they
say to one another.
"""
