"""The store that a configuration names."""

from __future__ import annotations

from scriptrules.config import Config
from scriptrules.errors import StoreUnavailable
from scriptrules.sightings import Evidence
from scriptrules.store._sqlite_sightings import evidence
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Store
from scriptrules.store.sqlite import SqliteStore


def make_store(config: Config) -> Store:
    """An unopened store."""
    path = config.store_path
    return MemoryStore() if path is None else SqliteStore(path)


def evidence_of(config: Config) -> Evidence:
    """What the configured store shows about rules; a server may have it meanwhile.

    Raises:
        StoreUnavailable: there is none, or it cannot be read.
    """
    path = config.store_path
    if path is None or not path.is_file():
        raise StoreUnavailable(f"There is no store {path or 'in memory'} yet. Serve first, or check without it.")
    return evidence(path)
