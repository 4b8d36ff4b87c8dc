"""Labels without needless negations; what has no opposite of its own gets a `not (…)`."""

on = "order.created"


def main(name, tags, low, high):
    if not name == "x":
        emit("name.other")
    if "urgent" not in tags:
        emit("tags.calm")
    else:
        emit("tags.urgent")
    if name is None:
        emit("name.none")
    else:
        emit("name.some")
    if low < high and tags:
        emit("range.good")
    else:
        emit("range.bad")


# expects: [
#     {"name != 'x'": "name.other"},
#     {"'urgent' not in tags": "tags.calm", "'urgent' in tags": "tags.urgent"},
#     {"name is None": "name.none", "name is not None": "name.some"},
#     {"low < high and tags": "range.good", "not (low < high and tags)": "range.bad"},
# ]
# name.other   emit  possible
# tags.calm    emit  possible
# tags.urgent  emit  possible
# name.none    emit  possible
# name.some    emit  possible
# range.good   emit  possible
# range.bad    emit  possible
