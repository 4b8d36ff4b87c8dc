"""The built-in sources of variables: chosen variables of the server's environment, and the files of a folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from scriptrules.errors import ConfigError, ScriptrulesError, nearest
from scriptrules.model import NAME
from scriptrules.plugins.spec import hookimpl
from scriptrules.plugins.variables import Found, SourceContext, SourceFactory, VariableSource

T = TypeVar("T", bound=msgspec.Struct)
FILE_MAX = 1024 * 1024  # bytes


@hookimpl
def scriptrules_variable_sources() -> dict[str, SourceFactory]:
    return {"environment": make_environment, "files": make_files}


class EnvironmentSettings(msgspec.Struct, frozen=True):
    names: dict[str, str]  # variable of the environment by name
    secrets: list[str] = []  # which of them are secrets


class FilesSettings(msgspec.Struct, frozen=True):
    folder: str
    secrets: bool | list[str] = False  # which of them are secrets; true: all


def make_environment(table: Mapping[str, Any], context: SourceContext) -> VariableSource:
    settings = read_settings(table, context, EnvironmentSettings)
    for name in settings.secrets:
        if name not in settings.names:
            raise ConfigError(
                f"[variables.{context.name}]: {name!r} in secrets is not one of its names"
                f"{nearest(name, settings.names)}"
            )
    return Environment(settings)


def make_files(table: Mapping[str, Any], context: SourceContext) -> VariableSource:
    return Files(read_settings(table, context, FilesSettings), context)


def read_settings(table: Mapping[str, Any], context: SourceContext, kind: type[T]) -> T:
    """The table of a source as its settings.

    Raises:
        ConfigError: an unknown key, with the nearest, or a wrong value.
    """
    where = f"[variables.{context.name}]"
    for key in table:
        if key not in kind.__struct_fields__:
            known = kind.__struct_fields__
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, known)} Known: {', '.join(known)}.")
    try:
        return msgspec.convert(dict(table), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}. Correct it and start again.") from None


class Environment:
    """Variables of the server's environment, each under a name of its own; no other can be read."""

    def __init__(self, settings: EnvironmentSettings) -> None:
        self._settings = settings

    async def find(self, name: str) -> Found | None:
        value = os.environ.get(self._settings.names.get(name, ""))
        return None if value is None else Found(value, name in self._settings.secrets)

    def names(self) -> Iterable[str]:
        return self._settings.names

    async def close(self) -> None:
        return


class Files:
    """A folder of variables: the file ``NAME`` is text, without its last line end, and ``NAME.json`` is JSON."""

    def __init__(self, settings: FilesSettings, context: SourceContext) -> None:
        self._secrets = settings.secrets
        self._folder = Path(context.base_dir, settings.folder)

    async def find(self, name: str) -> Found | None:
        return await asyncio.to_thread(self._read, name)

    def names(self) -> Iterable[str]:
        try:
            found = os.listdir(self._folder)
        except OSError:
            return ()
        return [name.removesuffix(".json") for name in found if NAME.match(name)]

    async def close(self) -> None:
        return

    def _read(self, name: str) -> Found | None:
        secret = self._secrets if isinstance(self._secrets, bool) else name in self._secrets
        text = self._text(f"{name}.json")
        if text is not None:
            return Found(msgspec.json.decode(text), secret)
        text = self._text(name)
        return None if text is None else Found(text.decode().removesuffix("\n").removesuffix("\r"), secret)

    def _text(self, name: str) -> bytes | None:
        try:
            with (self._folder / name).open("rb") as stream:
                text = stream.read(FILE_MAX + 1)
        except (FileNotFoundError, IsADirectoryError):
            return None
        if len(text) > FILE_MAX:
            raise ScriptrulesError(f"{self._folder / name} is over {FILE_MAX} bytes.")
        return text
