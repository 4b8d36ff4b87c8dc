"""Tell people that a report is ready, by a function of plugins/notices.py."""

on = "report.ready"


def main(file, text, **kwargs):
    print(text)
    return notify("reports", f"the report on {file} is ready")
