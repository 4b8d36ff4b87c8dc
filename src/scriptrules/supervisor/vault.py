"""Secrets at rest: sealed with AES-256-GCM under keys of a file of their own, bound to their name and version.

The file has one key a line, as base64; the first seals, all of them open. A rotation puts a new key first, seals
everything anew, and then takes the old keys away: killed at any moment, it leaves every secret readable.

What was tried and rejected: a key derived from a passphrase (a server that restarts by itself has nobody to ask), and
the key in the store (whoever copies the store, its backups too, would have both).
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scriptrules.errors import SecretsUnavailable
from scriptrules.redaction import KNOWN
from scriptrules.store.protocol import SecretVersion

KEY_SIZE, NONCE_SIZE = 32, 12  # bytes


class Vault:
    """Seals and opens the values of secrets.

    Args:
        file: where the keys are; None: they are made for this process, and end with it.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._own: list[bytes] = []  # where there is no file

    def seal(self, name: str, version: int, value: str, source: str, now: int) -> SecretVersion:
        """A value as it is stored; the key file is made where there is none.

        Raises:
            SecretsUnavailable: there is no key that can be used, and none can be made.
        """
        key = (self._keys() or self._make())[0]
        nonce = os.urandom(NONCE_SIZE)
        sealed = nonce + AESGCM(key).encrypt(nonce, value.encode(), _bound_to(name, version))
        return SecretVersion(name, version, source, _id_of(key), sealed, now)

    def open(self, secret: SecretVersion) -> str:
        """The value of a secret; from now on it is redacted from what this process logs and keeps.

        Raises:
            SecretsUnavailable: the key is missing, or the value was tampered with.
        """
        known = self._keys()
        key = next((key for key in known if _id_of(key) == secret.key), None)
        if key is None:
            why = "does not have" if known else "is not there: it had"
            raise SecretsUnavailable(
                f"The secret {secret.name!r} cannot be read: the key file {self.file} {why} its key {secret.key}. "
                f"Restore the file, or set the secret again with `scriptrules var set {secret.name} --secret`."
            )
        nonce, sealed = secret.sealed[:NONCE_SIZE], secret.sealed[NONCE_SIZE:]
        try:
            value = AESGCM(key).decrypt(nonce, sealed, _bound_to(secret.name, secret.version)).decode()
        except InvalidTag:
            raise SecretsUnavailable(
                f"The secret {secret.name!r} was changed in the store since it was sealed. "
                f"Set it again with `scriptrules var set {secret.name} --secret`."
            ) from None
        KNOWN.learn(value)
        return value

    def add_key(self) -> None:
        """Begin a rotation: put a new key before the others."""
        self._write([os.urandom(KEY_SIZE), *self._keys()])

    def drop_old_keys(self) -> None:
        """End a rotation: only the newest key is kept."""
        self._write(self._keys()[:1])

    def describe(self) -> str:
        """A sentence about the key file for `doctor`.

        Raises:
            SecretsUnavailable: it cannot be used, or others can read it.
        """
        count = len(self._keys())
        if not count:
            return "none yet; it is made with the first secret"
        return f"{self.file}, for its owner only" + (", amid a rotation of keys" if count > 1 else "")

    def _keys(self) -> list[bytes]:
        if self.file is None:
            return self._own
        try:
            with self.file.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                lines = stream.read().split()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SecretsUnavailable(f"The key file {self.file} cannot be read: {error.strerror}.") from None
        if stat.S_IMODE(mode) & 0o077:
            raise SecretsUnavailable(
                f"The key file {self.file} can be read by others (mode {stat.S_IMODE(mode):o}), so it is not used. "
                f"Run `chmod 600 {self.file}`; if others may have read it, `scriptrules var rotate-key` too."
            )
        try:
            keys = [base64.b64decode(line, validate=True) for line in lines]
        except ValueError:
            keys = []
        if not keys or any(len(key) != KEY_SIZE for key in keys):
            raise SecretsUnavailable(f"The key file {self.file} is damaged. Restore it from where you keep it.")
        return keys

    def _make(self) -> list[bytes]:
        self._write([os.urandom(KEY_SIZE)])
        return self._keys()

    def _write(self, keys: list[bytes]) -> None:
        """Replace the file at once and durably: with half of it, nothing could be read any more."""
        if self.file is None:
            self._own = keys
            return
        temporary = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as stream:
                stream.writelines(base64.b64encode(key) + b"\n" for key in keys)
                stream.flush()
                os.fsync(descriptor)
            temporary.rename(self.file)
            folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SecretsUnavailable(
                f"The key file {self.file} cannot be written: {error.strerror}. "
                f"Make its folder writable, or name another as key_file under [secrets]."
            ) from None


def _bound_to(name: str, version: int) -> bytes:
    """What a sealed value holds for, so that no row can be put in the place of another."""
    return f"scriptrules secret\0{name}\0{version}".encode()


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"scriptrules key id\0" + key).hexdigest()[:16]
