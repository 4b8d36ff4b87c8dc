"""A procedure: whoever does call("report.total", …) gets what `main` returns."""

on = "report.total"


def main(region, amounts):
    return [region, sum(amounts)]
