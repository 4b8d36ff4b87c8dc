"""What is wrong with a rule: the codes, what each means, the record that carries one, and how it is shown.

The first digit says what a finding costs. SR1xx and SR2xx: the sandbox refuses the code. SR3xx: it is no rule yet.
SR4xx: warnings, with which the rule becomes active all the same; SR5xx too, of all rules together. SR6xx: what ends a
run. SR7xx: a declarative rule is none yet. SR8xx and SR9xx are errors of scriptrules itself (`scriptrules.errors`).

Tried and rejected: a severity in each record, and letting authors ignore any code. The code decides both: an ignored
refusal would either be a hole in the sandbox or a comment that says it is none, so only those findings can be ignored
without which the rule means the same (`CodeInfo.ignorable`).
"""

from __future__ import annotations

import re
from pathlib import PurePath

import msgspec

from scriptrules.model import Source


class CodeInfo(msgspec.Struct, frozen=True):
    """One reason for a finding: what it is, why it is one, and what to write instead."""

    title: str
    why: str
    instead: str
    ignorable: bool = False  # by `# scriptrules: ignore[CODE]`


class Diagnostic(msgspec.Struct, frozen=True):
    """One finding in the source of a rule: line from 1, columns from 0 in UTF-8 bytes as in `ast`."""

    code: str
    message: str
    line: int
    column: int
    end_line: int | None = None
    end_column: int | None = None
    hint: str = ""
    file: str = ""  # where it stands, if not in the rule's own file: a library


class Rejected(Exception):
    """The source is not a rule that can be executed; `diagnostics` says why, place by place."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        first = diagnostics[0]
        more = f" (and {len(diagnostics) - 1} more)" if len(diagnostics) > 1 else ""
        super().__init__(f"line {first.line}: {first.message} [{first.code}]{more}. {first.hint}".rstrip())
        self.diagnostics = diagnostics


_SUSPEND = "A run can be stopped and replayed at any call; "

CODES: dict[str, CodeInfo] = {
    "SR101": CodeInfo("not Python", "Python itself cannot read the file.", "Correct the marked place."),
    "SR102": CodeInfo(
        "too large or too deep",
        "Source is parsed in a worker whose memory and stack are bounded.",
        "Split the rule, or move what it shares to rules/lib/.",
    ),
    "SR103": CodeInfo(
        "not part of the language",
        "Whatever the policy does not know is refused, new syntax of Python too.",
        "Write it with functions, loops and plain assignments.",
    ),
    "SR104": CodeInfo("async", _SUSPEND + "there is no event loop inside.", "Call wait(): it suspends by itself."),
    "SR105": CodeInfo(
        "class", "Objects of own classes cannot travel through a journal.", "Use dicts and plain functions."
    ),
    "SR106": CodeInfo(
        "yield", "A generator keeps a frame alive after its run has ended.", "Append to a list and return the list."
    ),
    "SR107": CodeInfo(
        "with", "There is nothing in a rule that has to be closed.", "Call the function; use try/finally to tidy up."
    ),
    "SR108": CodeInfo(
        "global", "Module variables are fresh in every run.", "Return the value, or keep it by save() and load()."
    ),
    "SR109": CodeInfo(
        "catches everything", "Such a handler would swallow the signal that ends a run.", "Write `except Exception:`."
    ),
    "SR110": CodeInfo(
        "jump out of finally", "It would discard the signal that ends a run.", "Move the jump behind the try statement."
    ),
    "SR111": CodeInfo(
        "reserved name",
        "Names that begin with `_` belong to the sandbox and to Python.",
        "Drop the underscore (`_` alone is fine).",
    ),
    "SR112": CodeInfo(
        "import",
        "Only pure modules exist inside a worker, and libraries from rules/lib/.",
        "Use `from lib.NAME import f`, or a plugin function for effects.",
    ),
    "SR113": CodeInfo(
        "computed handler",
        "The expression would be executed while the signal that ends a run is in flight.",
        "Name the exception: `except ValueError:` or `except (KeyError, ValueError):`.",
    ),
    "SR114": CodeInfo(
        "attribute assignment", "Rules own no objects with attributes.", 'Use a dict: `state["name"] = value`.'
    ),
    "SR115": CodeInfo(
        "name that rules do not have",
        "It would lead out of the sandbox, or differ between two executions.",
        "See the hint.",
    ),
    "SR116": CodeInfo(
        "pattern",
        "Class patterns read attributes behind the guards.",
        "Match the type alone, as in `case str():`, and test the rest with `if`.",
    ),
    "SR117": CodeInfo(
        "nested star", "Only the outermost star of a target can be bounded.", "Unpack in two statements."
    ),
    "SR118": CodeInfo(
        "the compiler died",
        "A worker was killed while it compiled the file, so nothing is known of it but that.",
        "Shorten the file, or take deep nesting apart.",
    ),
    "SR119": CodeInfo(
        "no readable file",
        "A rule is a text file in UTF-8 with a plain name that the server may read.",
        "See the hint.",
    ),
    "SR201": CodeInfo(
        "identity",
        "Whether two equal values are one object differs between a run and its replay.",
        "Write `==`; `is` is for None, True and False.",
    ),
    "SR202": CodeInfo(
        "injected function in a generator expression",
        "Generator expressions are evaluated at once, so the order of effects would not be the one that Python has.",
        "Write a list: `[run(…) for …]`.",
    ),
    "SR301": CodeInfo("no main", "A rule is entered by its main.", "Write `def main(**kwargs): ...`, or a table."),
    "SR302": CodeInfo(
        "unknown metadata",
        "A name that nothing reads is a slip of the pen, and would be ignored in silence.",
        "Correct the name; write constants of your own in CAPITALS, or read them.",
        ignorable=True,
    ),
    "SR303": CodeInfo("metadata that is no literal", "Metadata are read, never run.", "Write the value itself."),
    "SR304": CodeInfo("metadata of a wrong type", "The value has no meaning here.", "See the hint."),
    "SR305": CodeInfo(
        "main cannot be called", "The task's data are bound by name.", "Write `def main(size, **kwargs): ...`."
    ),
    "SR306": CodeInfo("when is no filter", "It is called with the task.", "Write `when = lambda task: ...`."),
    "SR307": CodeInfo("not a table", "Its entries are read, never run.", "Write [(name, filter, generator), ...]."),
    "SR308": CodeInfo("not a pattern", "No task can have such a name.", "Write `upload.*`, or `upload.**`."),
    "SR321": CodeInfo(
        "not for breakpoints",
        "A breakpoint holds what it matches and does nothing, so this would have no effect.",
        "Move it to a rule, or remove it.",
    ),
    "SR322": CodeInfo(
        "no place to stop at",
        "A breakpoint stops tasks, or runs before or after an entry of a named function.",
        'Write at = "task", "before:run" or "after:run".',
    ),
    "SR310": CodeInfo("assigned twice", "One of the two would be ignored in silence.", "Keep one."),
    "SR311": CodeInfo(
        "not retries",
        "It says how often a failed execution or plugin function is started again.",
        'Write `retries = 3`, or {"max": 3, "backoff": 2.0, "backoff_max": 60.0, "jitter": 0.5}.',
    ),
    "SR312": CodeInfo("not a timeout", "It is the seconds that a run may take.", "Write `timeout = 3600`."),
    "SR313": CodeInfo(
        "not a limit",
        "It says how many runs of the rule there may be at once, and what becomes of one too many.",
        'Write `limit = {"max": 1, "key": "customer", "full": "queue"}`.',
    ),
    "SR314": CodeInfo(
        "not a schedule",
        "A schedule that cannot be read, or whose time never comes, would be missed in silence.",
        'Write `schedule = "0 2 * * *"`: minute, hour, day of the month, month, day of the week.',
    ),
    "SR401": CodeInfo(
        "unknown name",
        "Neither the file, nor the language, nor a plugin defines it, so reading it fails the run.",
        "Correct the name, define it, or add the plugin that declares it.",
        ignorable=True,
    ),
    "SR402": CodeInfo(
        "wrong arguments",
        "The function's declaration does not take them, so the call fails the run.",
        "Call it as it is declared.",
        ignorable=True,
    ),
    "SR403": CodeInfo(
        "wait for what is never started",
        "The rule starts no execution of that name, so the wait fails the run.",
        "Write the name that run() has.",
        ignorable=True,
    ),
    "SR404": CodeInfo(
        "no such library or name in it",
        "The import fails the run, or even the filter.",
        "Correct the name, or add it to rules/lib/.",
        ignorable=True,
    ),
    "SR405": CodeInfo(
        "ignore without effect",
        "It would hide the next finding on its line, and misleads whoever reads it.",
        "Remove it, or put it at the end of the line it concerns: `# scriptrules: ignore[SR401]`.",
    ),
    "SR406": CodeInfo(
        "cannot be ignored",
        "The sandbox, or the rulebook, cannot do without it; the comment changes nothing.",
        "Remove the comment, and correct the line; only SR302, SR401 to SR404, SR407, SR408 and SR5xx can be.",
    ),
    "SR407": CodeInfo(
        "a space in an argument",
        "An item of `args` is one argument, literally; no shell takes it apart.",
        "Write one item for each argument.",
        ignorable=True,
    ),
    "SR408": CodeInfo(
        "a circle of rules",
        "Each of the rules generates what starts the next, so they never end by themselves.",
        "Take a task out of a `then`, or see to it that a `when` ends the circle.",
        ignorable=True,
    ),
    "SR501": CodeInfo(
        "a task that nobody handles",
        "A rule generates it, and no rule is for it, so it ends as unmatched.",
        "Correct the name, or add a rule whose `on` fits.",
        ignorable=True,
    ),
    "SR502": CodeInfo(
        "a rule that nobody runs",
        "No rule generates its task, but one generates a task of nearly that name which no rule is for.",
        "Correct one of the two names.",
        ignorable=True,
    ),
    "SR503": CodeInfo(
        "a circle without a wait",
        "Rules that start one another and wait for nothing outside go on at once, until hop_max holds the task.",
        "Leave one of the steps out under a condition that ends it, or sleep() between.",
        ignorable=True,
    ),
    "SR504": CodeInfo(
        "a rule for everything that generates",
        "Without `on` and `when` it also runs on the tasks that it generates itself, and on theirs.",
        'Write on = "…", or a `when`.',
        ignorable=True,
    ),
    "SR505": CodeInfo(
        "a call that nobody answers",
        "Only a rule whose `on` names the task literally answers a call, so the caller would be held.",
        "Correct the name, or add the rule.",
        ignorable=True,
    ),
    "SR506": CodeInfo(
        "a call that several answer",
        "Which value is meant cannot be said, so the caller would be held.",
        "Give one of them another name, or a higher priority.",
        ignorable=True,
    ),
    "SR507": CodeInfo(
        "a recursion without an end",
        "Every path through the function leads back into it.",
        "Return before the call where there is nothing left to be done.",
        ignorable=True,
    ),
    "SR508": CodeInfo(
        "a host that is not configured",
        "What run() asks of it fails at wait().",
        "Correct the name, or add the host to scriptrules.toml.",
        ignorable=True,
    ),
    "SR509": CodeInfo(
        "an option that the executor does not have",
        "It refuses the execution, which fails at wait().",
        "Correct the option, or leave it out.",
        ignorable=True,
    ),
    "SR510": CodeInfo(
        "code that is never reached",
        "What stands before it always returns, raises, fails or goes on for ever.",
        "Remove it, or correct what stands before.",
        ignorable=True,
    ),
    "SR511": CodeInfo(
        "a field that no task ever had",
        "A filter that reads a missing field does not hold, so the rule never runs.",
        "Correct the name of the field.",
        ignorable=True,
    ),
    "SR512": CodeInfo(
        "a task that nobody has foreseen",
        "A run has generated it, and the graph lacks the edge; or somebody has edited the run.",
        "Look at the run; if nobody edited it, please report the rule.",
        ignorable=True,
    ),
    "SR600": CodeInfo(
        "over the budget", "One rule must not cost the others anything.", "Do less in a slice, or raise [sandbox]."
    ),
    "SR601": CodeInfo(
        "killed", "The worker said nothing for too long, or crashed.", "Do less in one call; bound regular expressions."
    ),
    "SR602": CodeInfo(
        "timed out",
        "The run took longer than the `timeout` of its rule, without the time in which it was queued or held.",
        "Raise `timeout`, or see in `scriptrules show RUN` what it waited for; `scriptrules retry RUN` goes on.",
    ),
    "SR701": CodeInfo("not YAML", "The file cannot be read.", "Correct the marked place."),
    "SR702": CodeInfo(
        "not part of the form",
        "A declarative rule is plain data: mappings, lists, texts and numbers, once each.",
        "Write the value itself.",
    ),
    "SR703": CodeInfo("unknown key", "It would be ignored in silence.", "Correct or remove it."),
    "SR704": CodeInfo("missing key", "Without it there is nothing to be done.", "Add it."),
    "SR705": CodeInfo("a value of a wrong kind", "It has no meaning here.", "See the hint."),
    "SR706": CodeInfo(
        "unknown type or action", "Job types are those of plugins, and values have a few of their own.", "See the hint."
    ),
    "SR707": CodeInfo(
        "no such host",
        "A job needs a host of scriptrules.toml, with the executor of its type.",
        "Correct the name, or add the host to scriptrules.toml.",
    ),
}


def is_warning(code: str) -> bool:
    """Whether a rule with such a finding becomes active all the same."""
    return code.startswith(("SR4", "SR5"))


def lines_of(text: str) -> list[str]:
    """The lines of a source as Python counts them; `str.splitlines` ends them at form feeds too."""
    return re.split(r"\r\n?|\n", text)


LINE_SHOWN = 200  # characters of the line that a finding is in


def render_in(problem: Diagnostic, source: Source) -> str:
    """`problem` as it is printed, with its line from the rule's own text or from that of the library it stands in."""
    if not problem.file:
        return render(problem, source.text, source.file)
    return render(problem, source.libraries.get(PurePath(problem.file).stem, ""), problem.file)


def render(problem: Diagnostic, text: str, file: str) -> str:
    """`problem` as it is printed: where, what, the line with a caret, and what to write instead."""
    lines = lines_of(text)
    line = lines[problem.line - 1] if 0 < problem.line <= len(lines) else ""
    before = line.encode("utf-8", "replace")[: problem.column].decode("utf-8", "replace")
    width = 1
    if problem.end_line == problem.line and problem.end_column is not None:
        marked = line.encode("utf-8", "replace")[problem.column : problem.end_column].decode("utf-8", "replace")
        width = max(1, len(marked))
    shown = [f"{file}:{problem.line}:{len(before) + 1}: {problem.code} {problem.message}"]
    if line.strip():
        start = max(0, len(before) - LINE_SHOWN // 2) if len(line) > LINE_SHOWN else 0
        line, before = line[start : start + LINE_SHOWN], before[start:]
        width = max(1, min(width, len(line) - len(before)))
        number = f"{problem.line:>5} | "
        padding = "".join("\t" if character == "\t" else " " for character in before)
        shown += [number + line.rstrip(), " " * (len(number) - 2) + "| " + padding + "^" * width]
    if problem.hint:
        shown.append(f"      = {problem.hint}")
    return "\n".join(shown)
