"""A handler that ends the run as failed does not make the rest less certain."""

on = "report.wanted"


def main():
    run("local", "report", "report-tool")
    try:
        result = wait("report")
    except ExecutionFailed as error:
        fail(f"no report: {error}")
    emit("report.ready", output=result.output)


# expects: {"no exception": "report.ready"}
# report.ready  emit  certain
