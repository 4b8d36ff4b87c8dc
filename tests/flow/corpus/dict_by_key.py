"""A dictionary of names read by a field of the task, and by keys that are known."""

on = "file.found"
PARSERS = {"csv": "parse.csv", "xml": "parse.xml"}
ROUTES = {"eu": {"ready": "eu.ready"}}


def main(kind):
    emit(PARSERS[kind])
    emit(PARSERS["csv"] + ".again")
    emit(ROUTES["eu"]["ready"])


# expects: [{"kind == 'csv'": "parse.csv", "kind == 'xml'": "parse.xml"}, "parse.csv.again", "eu.ready"]
# parse.csv        emit  possible
# parse.xml        emit  possible
# parse.csv.again  emit  certain
# eu.ready         emit  certain
