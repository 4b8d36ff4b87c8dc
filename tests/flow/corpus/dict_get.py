"""A dictionary of names with a default."""

on = "file.found"
PARSERS = {"csv": "parse.csv", "xml": "parse.xml"}


def main(kind):
    emit(PARSERS.get(kind, "parse.other"))


# expects: {"kind == 'csv'": "parse.csv", "kind == 'xml'": "parse.xml", "otherwise": "parse.other"}
# parse.csv    emit  possible
# parse.xml    emit  possible
# parse.other  emit  possible
