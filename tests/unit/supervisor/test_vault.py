"""Secrets at rest: bound to their name and version, and readable whenever a rotation of keys was cut off."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import msgspec
import pytest

from scriptrules.clock import now
from scriptrules.config import load
from scriptrules.errors import SecretsUnavailable, StoreUnavailable
from scriptrules.plugins.manager import Plugins
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import SecretVersion, Variable
from scriptrules.supervisor.variables import Variables
from scriptrules.supervisor.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "keys" / "secrets.key")


def test_a_sealed_value_opens_under_its_own_name_and_version_only(vault: Vault) -> None:
    sealed = vault.seal("token", 1, "the-value-1", "", 0)
    assert b"the-value" not in sealed.sealed
    assert vault.open(sealed) == "the-value-1"
    for change in ({"name": "other"}, {"version": 2}, {"sealed": sealed.sealed[:-1] + b"\0"}):
        with pytest.raises(SecretsUnavailable, match="was changed in the store"):
            vault.open(msgspec.structs.replace(sealed, **change))


def test_the_same_value_is_sealed_differently_each_time(vault: Vault) -> None:
    assert len({vault.seal("t", 1, "same-value", "", 0).sealed for _ in range(50)}) == 50


def test_the_key_file_is_made_with_the_first_secret_and_for_its_owner(vault: Vault) -> None:
    assert vault.file is not None
    assert "none yet" in vault.describe()
    assert not vault.file.exists()
    vault.seal("t", 1, "x", "", 0)
    assert stat.S_IMODE(vault.file.stat().st_mode) == 0o600
    assert "for its owner only" in vault.describe()
    vault.file.chmod(0o640)
    for use in (vault.describe, vault.add_key, lambda: vault.seal("t", 2, "x", "", 0)):
        with pytest.raises(SecretsUnavailable, match="chmod 600"):
            use()


def test_another_key_file_is_told_from_a_missing_one(vault: Vault, tmp_path: Path) -> None:
    sealed = vault.seal("t", 1, "x", "", 0)
    other = Vault(tmp_path / "other.key")
    with pytest.raises(SecretsUnavailable, match=r"is not there.*var set t --secret"):
        other.open(sealed)
    other.seal("u", 1, "x", "", 0)
    with pytest.raises(SecretsUnavailable, match="does not have its key"):
        other.open(sealed)


class Unwilling(MemoryStore):
    """A store that cannot be written, once it has been told so."""

    broken = False

    async def put_variables(self, variables: list[Variable], secrets: list[SecretVersion]) -> None:
        if self.broken:
            raise StoreUnavailable
        await super().put_variables(variables, secrets)


@pytest.mark.parametrize("cut", ["before the store", "after the store", "nowhere"])
def test_a_rotation_that_is_cut_off_anywhere_leaves_every_secret_readable(tmp_path: Path, cut: str) -> None:
    async def scenario() -> None:
        store = Unwilling()
        config = load(tmp_path, environ={})
        variables = Variables(config, store, Plugins(None), now)
        for number in range(5):
            await variables.set(f"t{number}", f"value-{number}", secret=True)
        assert variables.vault.file is not None
        first = variables.vault.file.read_bytes()
        store.broken = cut == "before the store"
        if cut == "after the store":
            variables.vault.drop_old_keys = lambda: (_ for _ in ()).throw(SecretsUnavailable)  # type: ignore[method-assign]
        if cut == "nowhere":
            assert await variables.rotate_key() == 5
        else:
            with pytest.raises((StoreUnavailable, SecretsUnavailable)):
                await variables.rotate_key()
        assert variables.vault.file.read_bytes() != first
        store.broken = False
        again = Variables(config, store, Plugins(None), now)  # the next server
        found = await store.secret_versions(None)
        assert [again.vault.open(secret) for secret in found] == [f"value-{number}" for number in range(5)]
        assert await again.rotate_key() == 5
        assert len(variables.vault.file.read_bytes().split()) == 1
        found = await store.secret_versions(None)
        assert [again.vault.open(secret) for secret in found] == [f"value-{number}" for number in range(5)]

    asyncio.run(scenario())
