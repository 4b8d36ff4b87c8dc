"""`match` with values, shapes, a guard and a rest."""

on = "message.read"


def main(body, kind):
    match kind:
        case "csv" | "tsv":
            emit("parse.table")
        case "xml":
            emit("parse.xml")
        case None:
            emit("parse.guess")
        case _:
            emit("parse.other")
    match body:
        case {"type": "list", "items": items}:
            emit("body.mapping")
        case [first, *rest] if rest:
            emit("body.sequence")


# expects: [
#     {
#         "kind in ('csv', 'tsv')": "parse.table",
#         "kind == 'xml'": "parse.xml",
#         "kind is None": "parse.guess",
#         "otherwise": "parse.other",
#     },
#     {"case {'type': 'list', 'items': items}": "body.mapping", "case [first, *rest] if rest": "body.sequence"},
# ]
# parse.table    emit  possible
# parse.xml      emit  possible
# parse.guess    emit  possible
# parse.other    emit  possible
# body.mapping   emit  possible
# body.sequence  emit  possible
