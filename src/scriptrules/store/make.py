"""The store that a configuration names."""

from __future__ import annotations

from scriptrules.config import Config
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Store
from scriptrules.store.sqlite import SqliteStore


def make_store(config: Config) -> Store:
    """An unopened store."""
    path = config.store_path
    return MemoryStore() if path is None else SqliteStore(path)
