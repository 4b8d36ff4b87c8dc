"""A table whose generators come from a factory."""

on = "ops.alert"


def copier(*kinds):
    return lambda task: [{"task": f"copy.{kind}", "text": task["text"]} for kind in kinds]


rules = [
    ("copies", lambda task: task["copy"], copier("mail", "chat")),
    ("single", lambda task: not task["copy"], copier("file")),
]


# expects copies: {"task['copy']": ["copy.mail", "copy.chat"]}
# copy.mail  return  certain
# copy.chat  return  certain
# expects single: {"not task['copy']": "copy.file"}
# copy.file  return  certain
