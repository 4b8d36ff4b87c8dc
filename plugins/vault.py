"""An example of a source of variables: a server that keeps secrets, spoken to as HashiCorp Vault's KV version 2 is.

    [variables.vault]
    source = "vault"
    url = "https://vault.example.org:8200"
    token_file = "vault-token"      # readable by the server only
    mount = "secret"                # where the engine is mounted
    default_path = "scriptrules"    # of names with one segment

`load("db.main.password")` reads the key `password` of `secret/db/main`, and `load("token")` the key `token` of
`secret/scriptrules`. All of it is secret.
"""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from scriptrules import hookimpl
from scriptrules.errors import ConfigError
from scriptrules.plugins.sources import read_settings
from scriptrules.plugins.variables import Found, SourceContext

TIMEOUT = 5.0  # seconds
ANSWER_MAX = 1024 * 1024  # bytes


class Settings(msgspec.Struct, frozen=True):
    url: str
    token_file: str
    mount: str = "secret"
    default_path: str = "scriptrules"


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token is for the server that was configured, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Vault:
    def __init__(self, settings: Settings, base_dir: Path) -> None:
        self._settings = settings
        self._token_file = base_dir / settings.token_file
        self._open = urllib.request.build_opener(NoRedirects).open

    async def find(self, name: str) -> Found | None:
        path, _, key = name.replace(".", "/").rpartition("/")
        fields = await asyncio.to_thread(self._read, path or self._settings.default_path)
        value = fields.get(key)
        if value is None:
            return None
        return Found(value if isinstance(value, str) else json.dumps(value), secret=True)

    def names(self) -> tuple[str, ...]:
        return ()  # listing is a right of its own, which the token need not have

    async def close(self) -> None:
        return

    def _read(self, path: str) -> dict[str, Any]:
        """The newest version of what is kept at `path`; empty where nothing is."""
        url = f"{self._settings.url.rstrip('/')}/v1/{quote(self._settings.mount)}/data/{quote(path)}"
        request = urllib.request.Request(url, headers={"X-Vault-Token": self._token_file.read_text().strip()})
        try:
            with self._open(request, timeout=TIMEOUT) as answer:
                return json.loads(answer.read(ANSWER_MAX))["data"]["data"] or {}
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return {}
                raise RuntimeError(f"{url} answered {error.code} {error.reason}") from None
        except (KeyError, TypeError, ValueError):
            raise RuntimeError(f"what {url} answered is not a secret of KV version 2") from None


def make(table: Any, context: SourceContext) -> Vault:
    settings = read_settings(table, context, Settings)
    if not settings.url.startswith(("https://", "http://")):
        raise ConfigError(f"[variables.{context.name}]: url = {settings.url!r} is not https://HOST:PORT.")
    return Vault(settings, context.base_dir)


@hookimpl
def scriptrules_variable_sources() -> dict[str, Any]:
    return {"vault": make}
