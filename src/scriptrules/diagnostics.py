"""What is wrong with a rule, and how it is shown: file, line, caret, one sentence, and what to write instead."""

from __future__ import annotations

from scriptrules.sandbox.diagnostics import CODES, CodeInfo, Diagnostic, Rejected

__all__ = ["CODES", "CodeInfo", "Diagnostic", "Rejected", "render"]


def render(problem: Diagnostic, text: str, file: str) -> str:
    """`problem` as it is printed: where, what, the line with a caret, and what to write instead."""
    lines = text.splitlines()
    line = lines[problem.line - 1] if 0 < problem.line <= len(lines) else ""
    before = line.encode("utf-8", "replace")[: problem.column].decode("utf-8", "replace")
    width = 1
    if problem.end_line == problem.line and problem.end_column is not None:
        marked = line.encode("utf-8", "replace")[problem.column : problem.end_column].decode("utf-8", "replace")
        width = max(1, len(marked))
    shown = [f"{file}:{problem.line}:{len(before) + 1}: {problem.code} {problem.message}"]
    if line.strip():
        number = f"{problem.line:>5} | "
        padding = "".join("\t" if character == "\t" else " " for character in before)
        shown += [number + line.rstrip(), " " * (len(number) - 2) + "| " + padding + "^" * width]
    if problem.hint:
        shown.append(f"      = {problem.hint}")
    return "\n".join(shown)
