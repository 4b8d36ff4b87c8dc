"""Look at a disk that somebody says is filling up. A table of its own decides who is told (alerts/routing.py).

scriptrules send disk.usage mount=/ percent:=91
"""

on = "disk.usage"
when = lambda task: task["percent"] >= 80


def main(mount, percent):
    run("local", "df", "df", ["--output=pcent", mount], timeout=10)
    measured = int(wait("df").stdout.split()[-1].rstrip("%"))
    severity = "high" if percent >= 95 else "low"
    emit("ops.alert", severity=severity, text=f"{mount} is said to be {percent} % full, and measures {measured} %")
