"""`scriptrules explain-code`: what a code means, why it is one, and an example of wrong and right."""

from __future__ import annotations

from typing import Any

import click

from scriptrules.cli.common import json_option, print_json, print_table


@click.command("explain-code")
@click.argument("code", required=False)
@json_option
def explain_code_command(code: str | None, as_json: bool) -> None:
    """Explain a code such as SR110; without one, list them all."""
    from scriptrules.errors import nearest

    known = explanations()
    if code is None:
        if as_json:
            print_json({"items": list(known.values()), "next": None})
        else:
            print_table(["CODE", "TITLE"], [[one["code"], one["title"]] for one in known.values()])
        return
    if code.upper() not in known:
        near = nearest(code.upper(), known)
        raise click.UsageError(f"There is no code {code!r}{near} `scriptrules explain-code` lists them all.")
    found = known[code.upper()]
    if as_json:
        print_json(found)
    else:
        click.echo(text_of(found))


def explanations() -> dict[str, dict[str, Any]]:
    """Everything that has a code, by code: findings in rules, and the errors of scriptrules itself.

    Errors have no example, and say what to do in their title.
    """
    from scriptrules import errors
    from scriptrules.cli.examples import EXAMPLES
    from scriptrules.cli.flow_examples import FLOW_EXAMPLES
    from scriptrules.cli.yaml_examples import YAML_EXAMPLES
    from scriptrules.diagnostics import CODES, is_warning

    found: dict[str, dict[str, Any]] = {}
    for code, info in CODES.items():
        wrong, right = YAML_EXAMPLES.get(code) or FLOW_EXAMPLES.get(code) or EXAMPLES[code]
        found[code] = {
            "code": code,
            "title": info.title,
            "severity": "warning" if is_warning(code) else "error",
            "ignorable": info.ignorable,
            "why": info.why,
            "instead": info.instead,
            "wrong": wrong,
            "right": right,
            "language": "yaml" if code in YAML_EXAMPLES else "python",
        }
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.ScriptrulesError):
            what, _, instead = " ".join((error.__doc__ or "").split()).partition(". ")
            found[error.code] = {
                "code": error.code,
                "title": what.rstrip("."),
                "severity": "error",
                "ignorable": False,
                "why": "",
                "instead": instead,
                "wrong": "",
                "right": "",
                "language": "",
            }
    return dict(sorted(found.items()))


def text_of(explanation: dict[str, Any]) -> str:
    """An explanation as people read it."""
    parts = [f"{explanation['code']}: {explanation['title']}"]
    if explanation["why"]:
        parts.append(f"Why: {explanation['why']}")
    if explanation["instead"]:
        parts.append(f"Instead: {explanation['instead']}")
    if explanation["severity"] == "warning":
        parts.append("It is a warning: the rule becomes active all the same.")
    if explanation["ignorable"]:
        parts.append(f"To ignore it, end the line with `# scriptrules: ignore[{explanation['code']}]`.")
    for title, name in (("Wrong:", "wrong"), ("Right:", "right")):
        if explanation[name]:
            lines = [f"    {line}".rstrip() for line in explanation[name].splitlines()]
            parts.append("\n".join([title, "", *lines]))
    return "\n\n".join(parts)
