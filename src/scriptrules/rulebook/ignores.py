"""Comments that have a finding ignored: `# scriptrules: ignore[SR401]`, at the end of the line that it concerns.

Only findings without which the rule means the same can be ignored (`CodeInfo.ignorable`). What the sandbox refuses
stays refused; a comment that says otherwise is reported (SR406), and so is one that ignores nothing (SR405). Called in
workers only: telling a comment from text that looks like one takes a tokenizer, and rule code is read nowhere else.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec

from scriptrules.diagnostics import CODES, Diagnostic, lines_of
from scriptrules.errors import nearest

_COMMENT = re.compile(r"#\s*scriptrules:\s*ignore\b(?:\s*\[([^\]]*)\])?")
MOST = 50  # reports on comments
# Found where other files are known; `lines` says which lines they are ignored on.
ELSEWHERE = frozenset({"SR408", *(code for code in CODES if code.startswith("SR5"))})
_MARK = "scriptrules:"  # texts without it have no such comment, and need not be read


class Ignore(msgspec.Struct, frozen=True):
    """A comment: which codes it names, and for which lines."""

    codes: list[str]
    first: int  # line
    line: int  # of the comment itself
    column: int  # in UTF-8 bytes, as in `ast`
    end_column: int


Comment = tuple[int, int, int, str]  # for which lines (first and last), its column in characters, and its text


def python_comments(text: str) -> Iterator[Comment]:
    """The comments of a file in Python. Each stands for its line, and for those that end or go on there."""
    texts = lines_of(text)
    begun: dict[int, int] = {}  # last line of a text that has several: its first
    for token in _tokens(text):
        row, column = token.start
        if token.type == tokenize.STRING and token.end[0] > row:
            begun[token.end[0]] = begun.get(row, row)
        if token.type == tokenize.COMMENT:
            first = begun.get(row, row)
            while first > 1 and texts[first - 2].endswith("\\"):  # where no comment can stand
                first = begun.get(first - 1, first - 1)
            yield first, row, column, token.string


def apply(
    text: str,
    problems: list[Diagnostic],
    complete: bool = True,
    comments: Callable[[str], Iterable[Comment]] = python_comments,
) -> list[Diagnostic]:
    """What is left of the findings of a file, with what is wrong with its comments.

    Args:
        text: the file.
        problems: everything that was found in it, and in its libraries.
        complete: whether it was looked at as a whole; if not, an ignore may have lost its object.
        comments: finds those of the text.

    Returns:
        The findings that are not ignored, and SR405 and SR406.
    """
    if _MARK not in text:
        return problems
    ignores = list(_ignores(text, comments))
    where = {line: one for one in ignores for line in range(one.first, one.line + 1)}
    used: set[tuple[int, str]] = set()
    left = []
    for problem in problems:
        comment = where.get(problem.line) if not problem.file else None
        if comment is not None and problem.code in comment.codes and CODES[problem.code].ignorable:
            used.add((comment.line, problem.code))
        else:
            left.append(problem)
    reports = (_report(one, *mistake) for one in ignores for mistake in _mistakes(one, used, complete))
    return [*left, *islice(reports, MOST)]


def lines(text: str, code: str, comments: Callable[[str], Iterable[Comment]]) -> frozenset[int]:
    """The lines on which a code is to be ignored."""
    if _MARK not in text:
        return frozenset()
    found = (one for one in _ignores(text, comments) if code in one.codes)
    return frozenset(line for one in found for line in range(one.first, one.line + 1))


def _mistakes(ignore: Ignore, used: set[tuple[int, str]], complete: bool) -> Iterator[tuple[str, str]]:
    if not ignore.codes:
        yield "SR405", "This comment names no code, so it ignores nothing."
    for code in ignore.codes:
        if code not in CODES:
            yield "SR405", f"There is no code {code!r}{nearest(code, CODES)}"
        elif not CODES[code].ignorable:
            refused = code[:3] in ("SR1", "SR2")
            why = "the sandbox refuses such code whatever a comment says" if refused else "it must be corrected"
            yield "SR406", f"{code} cannot be ignored: {why}."
        elif complete and (ignore.line, code) not in used and code not in ELSEWHERE:
            yield "SR405", f"There is no {code} on this line, so the comment ignores nothing."


def _report(ignore: Ignore, code: str, message: str) -> Diagnostic:
    return Diagnostic(
        code, message, ignore.line, ignore.column, ignore.line, ignore.end_column, hint=CODES[code].instead
    )


def _ignores(text: str, comments: Callable[[str], Iterable[Comment]]) -> Iterator[Ignore]:
    texts = lines_of(text)
    for first, row, column, comment in comments(text):
        if (found := _COMMENT.search(comment)) is not None:
            start = len(texts[row - 1][: column + found.start()].encode("utf-8", "replace"))
            codes = [code.strip() for code in (found[1] or "").split(",") if code.strip()]
            yield Ignore(codes, first, row, start, start + len(found[0].encode("utf-8", "replace")))


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens up to where the text ends to be Python; an f-string is one of type STRING in all versions."""
    open_at: list[tuple[int, int]] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            name = tokenize.tok_name[token.type]
            if name == "FSTRING_START":
                open_at.append(token.start)
            elif name == "FSTRING_END":
                yield tokenize.TokenInfo(tokenize.STRING, "", open_at.pop(), token.end, token.line)
            yield token
    except (tokenize.TokenError, SyntaxError):
        return
