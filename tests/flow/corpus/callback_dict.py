"""Functions in a dictionary, chosen by a field of the task."""

on = "file.found"


def parse_csv(file):
    emit("csv.parsed", file=file)


def parse_xml(file):
    emit("xml.checked", file=file)
    emit("xml.parsed", file=file)


PARSERS = {"csv": parse_csv, "xml": parse_xml, "none": lambda file: None}


def main(kind, file):
    PARSERS[kind](file)
    PARSERS["csv"](file)


# expects: [{"kind == 'csv'": "csv.parsed", "kind == 'xml'": ["xml.checked", "xml.parsed"]}, "csv.parsed"]
# csv.parsed   emit  certain
# xml.checked  emit  possible
# xml.parsed   emit  possible
