"""Make a report: sort the rows with a program, have the regions totalled by other rules, publish it after a pause."""

from lib.text import table

on = "report.requested"


def main(file, content, checksum):
    run("local", "sorted", "sort", ["-t", ",", "-k", "2", "-n", "-r"], stdin=content)
    rows = [line.split(",") for line in wait("sorted").stdout.splitlines()]

    regions = sorted({row[0] for row in rows})
    amounts = {region: [int(row[1]) for row in rows if row[0] == region] for region in regions}
    totals = [call("report.total", region=region, amounts=amounts[region]) for region in regions]

    sleep(1)  # durable: it may as well be three days, and the server may be restarted meanwhile
    emit("report.ready", file=file, checksum=checksum, text=table([[region, total] for region, total in totals]))
    return {"regions": len(regions), "total": sum([total for _, total in totals])}
