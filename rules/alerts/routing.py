"""Who is told: a table of (name, filter, generator). Each mapping that a generator gives is a new task of that name."""

on = "ops.alert"

rules = [
    ("page.oncall", lambda task: task["severity"] == "high", lambda task: [{"text": task["text"]}]),
    ("mail.ops", lambda task: task["severity"] != "high", lambda task: [{"text": task["text"]}]),
]
