"""Fallbacks as a table."""

nomatch = [
    ("copy-id", lambda x: True, lambda x: [{"id": x["id"]}]),
    ("names", lambda x: x.name != "names", lambda x: [{"task": "name.seen"}, {"task": "name.counted"}]),
]


# expects copy-id: "copy-id"
# copy-id  nomatch  certain
# expects names: {"x.name != 'names'": ["name.seen", "name.counted"]}
# name.seen     nomatch  certain
# name.counted  nomatch  certain
