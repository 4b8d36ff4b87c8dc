"""A procedure that a declarative rule calls (files/note.yaml): what it returns is the data of the task that follows."""

from lib.text import plural

on = "file.described"


def main(file, lines):
    return {"severity": "low", "text": f"{file} has {plural(lines, 'line')}"}
