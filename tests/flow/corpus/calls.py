"""Procedures: called alone, and for each of the task's regions; a name may come back."""

on = "report.wanted"


def main(regions):
    totals = [call("report.total", region=region) for region in regions]
    target = call("report.target")
    emit("report.ready", totals=totals)
    emit(target)


# expects: ["report.total", "report.target", "report.ready", "*"]
# report.total   call  possible
# report.target  call  certain
# report.ready   emit  certain
# *              emit  unknown
