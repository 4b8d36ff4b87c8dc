"""Rules as data: found and read from files (`files`), described from their syntax tree (`metadata`), indexed by the
names of the tasks they match (`index`). Nothing here executes a rule; `metadata` runs in workers only, because parsing
is itself work on hostile text.
"""
