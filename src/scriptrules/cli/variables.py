"""`scriptrules var`: the variables and secrets of a server's store."""

from __future__ import annotations

import sys

import click

from scriptrules.cli.common import (
    Piece,
    clean,
    json_option,
    make_client,
    print_json,
    print_table,
    read_json,
    read_stdin,
    say,
)


@click.group("var")
def var_command() -> None:
    """Read and set the variables that rules load; secrets among them."""


@var_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the store's variables. Secrets are listed, and never shown."""
    variables = make_client().variables()
    if as_json:
        print_json({"items": variables, "next": None})
        return
    rows: list[list[str | Piece]] = [
        [
            (one["name"], "bold"),
            (f"secret, version {one['version']}", "held") if one["secret"] else clean(shown(one["value"])),
            one["since"],
            one["by"] or "",
        ]
        for one in variables
    ]
    print_table(("NAME", "VALUE", "SINCE", "BY"), rows)


@var_command.command("get")
@click.argument("name")
@json_option
def get_command(name: str, as_json: bool) -> None:
    """Print the value of a variable: text as it is, anything else as JSON.

    Exit status 1 where it is a secret, which is never shown.
    """
    variable = make_client().variable(name)
    if as_json:
        print_json(variable)
    elif variable["secret"]:
        say(f"scriptrules: {name} is a secret, and never shown. Set it again where its value is lost.")
        click.get_current_context().exit(1)
    else:
        click.echo(shown(variable["value"]))


@var_command.command("set")
@click.argument("name")
@click.argument("value", required=False)
@click.option("--secret", is_flag=True, help="Keep it sealed; rules can pass it on, and nobody sees it again.")
@click.option("--json-value", is_flag=True, help="VALUE is JSON, not text.")
@json_option
def set_command(name: str, value: str | None, secret: bool, json_value: bool, as_json: bool) -> None:
    """Give a variable a value, for all rules.

    Without VALUE it is read from standard input, less one line end; so no secret need stand on a command line, where
    others can see it.
    """
    if secret and json_value:
        raise click.UsageError("A secret is text. Leave --json-value out: JSON is text as well.")
    if value is None and secret and sys.stdin.isatty():
        value = click.prompt(f"Value of {name}", hide_input=True, err=True)
    elif value is None:
        value = read_stdin().removesuffix("\n").removesuffix("\r")
    elif secret:
        say("scriptrules: a value on the command line stays in the shell's history; standard input is safer.")
    variable = make_client().set_variable(name, read_json(value, "VALUE") if json_value else value, secret)
    if as_json:
        print_json(variable)
    elif secret:
        say(f"{name} is a secret now, version {variable['version']}.")


@var_command.command("rm")
@click.argument("name")
def rm_command(name: str) -> None:
    """Remove a variable. Runs that have loaded a secret can still use it."""
    make_client().remove_variable(name)


@var_command.command("rotate-key")
def rotate_key_command() -> None:
    """Seal all secrets with a new key, and take the old one out of the key file.

    Copies of the store and of the key file from before are still readable together.
    """
    say(f"There is a new key; values that were sealed anew: {make_client().rotate_key()}.")


def shown(value: object) -> str:
    """A value as it is printed."""
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
