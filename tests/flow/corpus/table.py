"""A table: each entry is a rule of its own, with its filter as label."""

on = "ops.alert"


def copies(task):
    generated = [{"task": f"copy.{kind}"} for kind in ("mail", "chat")]
    if task.get("keep"):
        generated.append({"task": "archive.add"})
    return generated


rules = [
    ("page.oncall", lambda task: task["severity"] == "high", lambda task: [{"text": task["text"]}]),
    ("mail.ops", lambda t: True, lambda t: {"text": t["text"]}),
    ("copies", lambda t: t["copy"], copies),
    ("routed", lambda t: "to" in t, lambda t: [{"task": f"to.{t['to']}"}]),
]


# expects page.oncall: {"task['severity'] == 'high'": "page.oncall"}
# page.oncall  return  certain
# expects mail.ops: "mail.ops"
# mail.ops  return  certain
# expects copies: {"t['copy']": ["copy.mail", "copy.chat", {"task.get('keep')": "archive.add"}]}
# copy.mail    return  certain
# copy.chat    return  certain
# archive.add  return  possible
# expects routed: {"'to' in t": "to.*"}
# to.*  return  unknown
