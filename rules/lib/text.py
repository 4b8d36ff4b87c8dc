"""Shared by the rules: `from lib.text import plural, table`. Part of the digest of each rule that uses it."""


def plural(count, noun):
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def table(rows):
    """Rows of text with their columns below one another."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
