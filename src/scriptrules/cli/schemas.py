"""`scriptrules schema`: the JSON schema of declarative rules, for editors."""

from __future__ import annotations

import json

import click

from scriptrules.cli.common import existing_folder, load_plugins, overrides


@click.command("schema")
@click.option("--plugins", metavar="DIR", callback=existing_folder, help="Folder of plugins, whose job types count.")
def schema_command(plugins: str | None) -> None:
    """Print the JSON schema of declarative rules, for editors.

    Editors that know the language server for YAML read it where the first line of a rule says so:

    \b
    scriptrules schema > rule.schema.json
    # yaml-language-server: $schema=../rule.schema.json
    """
    from scriptrules import config
    from scriptrules.rulebook.schema import schema_of

    settings = config.load(None, overrides(None, plugins, None))
    click.echo(json.dumps(schema_of(load_plugins(settings).job_types), indent=2))
