"""`scriptrules token`: who may use a server. Through the server where one answers, otherwise in its store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from scriptrules.cli.common import Piece, json_option, make_client, overrides, print_json, print_table, say

if TYPE_CHECKING:
    from scriptrules.client import Client
    from scriptrules.store.protocol import Store
    from scriptrules.tokens import Token, Tokens

store_option = click.option(
    "--store", metavar="URL", help="Do it in this store, of which no server is running: sqlite:///path/to/state.db."
)


@click.group("token")
def token_command() -> None:
    """Say who may use the server: add, list and revoke tokens.

    Without a token whoever reaches the server on this machine may do everything, and it listens nowhere else. Where no
    server answers, and SCRIPTRULES_URL is not set, the store of the configuration in this folder is used.
    """


@token_command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), default="operator", show_default=True)
@store_option
@json_option
def add_command(name: str, role: str, store: str | None, as_json: bool) -> None:
    """Make a token and print it: this once, because only its hash is kept.

    A viewer may look, an operator may send tasks and intervene, an admin may do everything. The first token has to be
    an admin's. Put it into SCRIPTRULES_TOKEN.
    """
    from scriptrules.clock import now, text
    from scriptrules.store.protocol import Audit

    async def offline(store: Store, tokens: Tokens) -> dict[str, str]:
        made, secret = tokens.make(name, role, now())  # type: ignore[arg-type]
        await store.put_token(made, Audit(now(), "scriptrules token", "token", f"token {name}"))
        return {**_shown(made, text), "token": secret}

    made = _do(store, lambda client: client.add_token(name, role), offline)
    if as_json:
        print_json(made)
    else:
        click.echo(made["token"])
        say(f"This is the token of {name} ({role}). It is shown this once: keep it, and set SCRIPTRULES_TOKEN to it.")


@token_command.command("list")
@store_option
@json_option
def list_command(store: str | None, as_json: bool) -> None:
    """List the tokens: names and roles."""
    from scriptrules.clock import text

    async def offline(_: Store, tokens: Tokens) -> list[dict[str, str]]:
        return [_shown(token, text) for token in tokens.all()]

    items = _do(store, lambda client: client.tokens(), offline)
    if as_json:
        print_json({"items": items, "next": None})
        return
    rows: list[list[str | Piece]] = [[(one["name"], "bold"), one["role"], one["created"]] for one in items]
    print_table(("NAME", "ROLE", "CREATED"), rows)


@token_command.command("revoke")
@click.argument("name")
@store_option
def revoke_command(name: str, store: str | None) -> None:
    """Have a token not be one any more, from now on."""
    from scriptrules.clock import now
    from scriptrules.store.protocol import Audit

    async def offline(store: Store, tokens: Tokens) -> None:
        tokens.removable(name, True)
        await store.remove_token(name, Audit(now(), "scriptrules token", "revoke", f"token {name}"))

    _do(store, lambda client: client.revoke_token(name), offline)
    say(f"{name} is no token any more.")


def _do(url: str | None, online: Callable[[Client], Any], offline: Callable[[Store, Tokens], Awaitable[Any]]) -> Any:
    """Ask the server; where none answers at its usual place, or a store is named, do it in the store."""
    from scriptrules.client import Unreachable

    if url is None:
        try:
            return online(make_client())
        except Unreachable as error:
            if os.environ.get("SCRIPTRULES_URL"):
                raise Unreachable(f"{error.message} Or name the store of a server that does not run: --store") from None
            say("No server answers: this is done in the store.")
    return asyncio.run(_in_store(url, offline))


async def _in_store(url: str | None, work: Callable[[Store, Tokens], Awaitable[Any]]) -> Any:
    from scriptrules import config
    from scriptrules.errors import ConfigError
    from scriptrules.store.make import make_store
    from scriptrules.tokens import Tokens

    settings = config.load(None, overrides(None, None, url))
    if settings.store_path is None:
        raise ConfigError("A store in memory keeps no tokens. Name one that does: --store sqlite:///path/to/state.db.")
    store = make_store(settings)
    await store.open()
    try:
        return await work(store, Tokens(await store.tokens()))
    finally:
        await store.close()


def _shown(token: Token, text: Callable[[int], str]) -> dict[str, str]:
    return {"name": token.name, "role": token.role, "created": text(token.created)}
