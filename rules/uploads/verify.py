"""Verify an upload: its checksum and its number of lines, by two programs at once; then have it reported.

scriptrules send upload.finished file=sales.csv content='north,120'
"""

from lib.text import plural

on = "upload.finished"
when = lambda task: len(task["content"]) > 0


def main(file, content, **kwargs):
    run("local", "checksum", "sha256sum", stdin=content)
    run("local", "lines", "wc", ["-l"], stdin=content)
    checksum, lines = wait("checksum", "lines")
    count = int(lines.stdout)
    log(f"{file} has {plural(count, 'line')}", host=lines.host)
    emit("report.requested", file=file, content=content, checksum=checksum.stdout[:12])
