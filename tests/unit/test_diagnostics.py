"""How a finding is printed."""

from __future__ import annotations

from scriptrules.diagnostics import LINE_SHOWN, Diagnostic, render


def test_of_a_very_long_line_the_part_around_the_caret_is_shown() -> None:
    text = "é" * 3000 + "BAD" + "y" * 90_000
    where, line, caret, hint = render(Diagnostic("SR101", "bad.", 1, 6000, 1, 6003, hint="h"), text, "f").split("\n")
    assert (where, hint) == ("f:1:3001: SR101 bad.", "      = h")
    assert len(line) < LINE_SHOWN + 20
    at = caret.index("^")
    assert (line[at : at + 3], caret[at:]) == ("BAD", "^^^")
