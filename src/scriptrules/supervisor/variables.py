"""Variables and secrets: what `load` is told, what people set, and the one place where secrets become text.

A `load` is answered from what its own slice has saved, then from what the tree of its task has, then from the store,
then from the configured sources. A secret is answered by its name and version; `reveal` gives the text, just before an
executor or a function of a plugin is called with it, and only to a run that has loaded it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from scriptrules.clock import SECOND, Clock
from scriptrules.config import Config
from scriptrules.errors import BadVariable, NotFound, NotPossible, SecretsUnavailable, TooLarge, nearest
from scriptrules.journal import Intent
from scriptrules.model import NAME, NAME_MAX, Failure, SecretRef
from scriptrules.plugins.manager import Plugins
from scriptrules.plugins.variables import Found, SourceContext, VariableSource
from scriptrules.redaction import KNOWN
from scriptrules.sandbox import payload
from scriptrules.sandbox.signals import LimitExceeded
from scriptrules.sandbox.wire import Outcome
from scriptrules.store.protocol import SecretUse, SecretVersion, Store, Variable
from scriptrules.supervisor.arguments import LoadArgs, SecretText, WorkerLied, load_args, save_args
from scriptrules.supervisor.background import patiently
from scriptrules.supervisor.references import Answer, references
from scriptrules.supervisor.vault import Vault

log = structlog.get_logger(__name__)

SOURCE_TIMEOUT = 10.0  # seconds in which a source has to answer
NAMES_MAX = 1000  # names that the nearest to an unknown one is looked for among
KEEP = 3600 * SECOND  # how long a value is kept, at least, that another has taken the place of


class Variables:
    """The variables of an installation.

    Args:
        config: has the sources, in the order in which they are asked, and the key file.
    """

    def __init__(self, config: Config, store: Store, plugins: Plugins, clock: Clock) -> None:
        self.vault = Vault(config.key_file)
        self._store = store
        self._clock = clock
        self._value_max, self._depth_max = config.sandbox.payload_max, config.sandbox.depth_max
        self._sealing = asyncio.Lock()  # one version after the other
        self._secrets: set[str] = set()  # the store's own
        self._sources: dict[str, VariableSource] = {}
        for name, table in config.variables.items():
            context = SourceContext(name, config.base)
            self._sources[name] = plugins.make_source(table["source"], table, context)

    async def start(self) -> None:
        """Let go of what nobody needs, and say so if secrets cannot be read: runs that load them will fail."""
        await self._store.prune_variables(self._clock() - KEEP)
        after = ""
        while page := await self._store.variables("", after, NAMES_MAX):
            self._secrets.update(variable.name for variable in page if variable.version is not None)
            after = page[-1].name
        try:
            for secret in await self._store.secret_versions(None):
                self.vault.open(secret)
        except SecretsUnavailable as error:
            log.error("secrets.unavailable", problem=error.message)

    async def close(self) -> None:
        for name, source in self._sources.items():
            try:
                await source.close()
            except Exception as error:
                log.error("source.close_failed", source=name, problem=repr(error))

    # ---- what scripts read

    async def answer(self, root: str, intents: Sequence[Intent]) -> Answer:
        """What the last of `intents`, a load, is told; before it stand the saves of that name in its own slice.

        Args:
            root: the task at the root of the run's tree.

        Raises:
            WorkerLied: these are no such intents.
        """
        try:
            *saves, load = intents
            asked = load_args(load.args)
            saved = [save_args(intent.args) for intent in saves]
        except (ValueError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WorkerLied(f"a load that cannot be one: {error}") from None
        strangers = [intent.name for intent in saves if intent.name != "save"]
        if load.name != "load" or strangers or any(one.name != asked.name for one in saved):
            raise WorkerLied("a load after something else")
        own = {one.scope: one for one in saved}
        if "tree" in own:
            return load.args, Outcome(bytes(own["tree"].value))
        kept = {bool(variable.root): variable for variable in await self._named(root, asked.name)}
        if True in kept:
            return load.args, Outcome(kept[True].value or b"null")
        if "store" in own:
            return load.args, Outcome(bytes(own["store"].value))
        try:
            outcome = await self._from_store_or_source(root, asked, kept.get(False))
        except Exception as error:  # a bug must not leave the run standing there for ever
            log.exception("load.bug", variable=asked.name)
            outcome = Outcome(error=Failure("RuntimeError", KNOWN.text(f"load({asked.name!r}) failed: {error!r}")))
        return load.args, outcome

    async def _named(self, root: str, name: str) -> list[Variable]:
        return await patiently(lambda: self._store.variables_named(root, name))

    async def _from_store_or_source(self, root: str, asked: LoadArgs, kept: Variable | None) -> Outcome:
        try:
            if kept is not None and kept.version is not None:
                ref = SecretRef(kept.name, kept.version)
                await self._open(ref)  # better now than when everything else has been done
                return Outcome(secret=ref)
            if kept is not None:
                return Outcome(kept.value or b"null")
            found = await self._from_sources(asked.name)
        except SecretsUnavailable as error:
            return Outcome(error=Failure("RuntimeError", error.message, code=error.code))
        if found is not None:
            return found
        if asked.default is not msgspec.UNSET:
            return Outcome(bytes(asked.default))
        close = nearest(asked.name, await self._known(root) - {asked.name})  # a source may be known to give it
        return Outcome(
            error=Failure(
                "LookupError",
                f"there is no variable {asked.name!r}{close} Set it with `scriptrules var set {asked.name} VALUE`, or "
                f"write load({asked.name!r}, default=…).",
            )
        )

    async def _from_sources(self, name: str) -> Outcome | None:
        for where, source in self._sources.items():
            try:
                async with asyncio.timeout(SOURCE_TIMEOUT):
                    found = await source.find(name)
                if found is not None:
                    return await self._taken(where, name, found)
            except SecretsUnavailable:
                raise
            except Exception as error:
                log.warning("source.failed", source=where, variable=name, problem=repr(error))
                message = KNOWN.text(f"load({name!r}): the source [variables.{where}] failed: {_why(error)}")
                return Outcome(error=Failure("RuntimeError", message))
        return None

    async def _taken(self, where: str, name: str, found: Found) -> Outcome:
        """What a source has found, checked; a secret is sealed, so that a replay sees the same."""
        if found.secret:
            if not isinstance(found.value, str):
                raise TypeError(f"a secret is text, and {name!r} is {type(found.value).__name__}")
            return Outcome(secret=await self._seal(name, found.value, where))
        try:
            return Outcome(self._encoded(found.value))
        except LimitExceeded as error:
            raise ValueError(str(error)) from None

    def _encoded(self, value: Any) -> bytes:
        """A value as rules may have saved it, with the same limits."""
        return payload.encode(value, "the value", self._value_max, self._depth_max)

    async def _known(self, root: str) -> set[str]:
        names: set[str] = set()
        for tree in (root, ""):
            found = await patiently(lambda tree=tree: self._store.variables(tree, "", NAMES_MAX))  # type: ignore[misc]
            names |= {variable.name for variable in found}
        for where, source in self._sources.items():
            try:
                names.update(source.names())
            except Exception as error:
                log.warning("source.failed", source=where, problem=repr(error))
        return names

    # ---- secrets

    async def reveal(self, run: str, texts: Iterable[SecretText]) -> Callable[[SecretText], str]:
        """The way to fill in secrets for a run that has loaded them.

        Raises:
            SecretsUnavailable: one cannot be read any more, or this run has not loaded it.
        """
        values: dict[SecretRef, str] = {}
        for ref in references(texts):
            use = SecretUse(ref.name, ref.version, run)
            secret = await patiently(lambda use=use: self._store.secret_for(use))  # type: ignore[misc]
            if secret is None:
                raise SecretsUnavailable(
                    f"Version {ref.version} of the secret {ref.name!r} is not in the store any more. "
                    f"Retry the run with --from-start: it loads the newest one."
                )
            values[ref] = self.vault.open(secret)

        def fill(text: SecretText) -> str:
            return "".join(part if isinstance(part, str) else values[part] for part in text.parts)

        return fill

    async def secret(self, name: str) -> str:
        """The text of a secret that the installation itself needs, such as the password of a registry, as it is now.

        Raises:
            SecretsUnavailable: there is none, it is no secret, or it cannot be read.
        """
        kept = next((one for one in await self._named("", name) if not one.root), None)
        if kept is not None and kept.version is not None:
            return await self._open(SecretRef(name, kept.version))
        found = None
        for where, source in self._sources.items() if kept is None else ():
            try:
                async with asyncio.timeout(SOURCE_TIMEOUT):
                    found = await source.find(name)
            except Exception as error:
                message = KNOWN.text(f"The secret {name!r}: the source [variables.{where}] failed: {_why(error)}")
                raise SecretsUnavailable(message) from None
            if found is not None:
                break
        if found is not None and found.secret and isinstance(found.value, str):
            KNOWN.learn(found.value)
            return found.value
        raise SecretsUnavailable(
            f"{name!r} is a variable and no secret. Remove it, and set it anew with --secret."
            if kept is not None or found is not None
            else f"There is no secret {name!r}. Set it with `scriptrules var set {name} --secret`."
        )

    async def _open(self, ref: SecretRef) -> str:
        versions = await patiently(lambda: self._store.secret_versions(ref.name))
        secret = next((secret for secret in versions if secret.version == ref.version), None)
        if secret is None:
            raise SecretsUnavailable(f"The secret {ref.name!r} has no value in the store. Set it again.")
        return self.vault.open(secret)

    async def _seal(self, name: str, value: str, source: str) -> SecretRef:
        """Keep a value that a source has given; the same one is kept once."""
        KNOWN.learn(value)
        async with self._sealing:
            versions = await patiently(lambda: self._store.secret_versions(name))
            last = next((secret for secret in versions if secret.source == source), None)
            if last is not None and self.vault.open(last) == value:
                return SecretRef(name, last.version)
            sealed = self.vault.seal(name, _next(versions), value, source, self._clock())
            await patiently(lambda: self._store.put_variables([], [sealed]))
            return SecretRef(name, sealed.version)

    # ---- what people do

    async def all(self, after: str, limit: int) -> list[Variable]:
        """The store's variables by name, after the given one."""
        return await self._store.variables("", after, limit)

    async def get(self, name: str) -> Variable:
        """A variable of the store.

        Raises:
            NotFound: there is none; with the nearest name.
        """
        variable = next((one for one in await self._store.variables_named("", name)), None)
        if variable is None:
            names = (one.name for one in await self._store.variables("", "", NAMES_MAX))
            raise NotFound(
                f"The store has no variable {name!r}{nearest(name, names)} "
                f"Set it with `scriptrules var set {name} VALUE`."
            )
        return variable

    async def set(self, name: str, value: Any, secret: bool) -> Variable:
        """Give a variable of the store a value.

        Raises:
            BadVariable, TooLarge: the name or the value cannot be one.
            NotPossible: a secret would become readable.
            SecretsUnavailable: it cannot be sealed.
            StoreUnavailable: nothing was changed.
        """
        if not NAME.match(name) or len(name) > NAME_MAX:
            raise BadVariable(
                f"{name[:80]!r} is not the name of a variable. Write segments of letters, digits, _ and - with dots."
            )
        try:
            encoded = self._encoded(value)
        except (TypeError, ValueError) as error:
            raise BadVariable(f"{error}.") from None
        except LimitExceeded as error:
            raise TooLarge(f"{error}.") from None
        now = self._clock()
        if not secret:
            before = await self._store.variables_named("", name)
            if before and before[0].version is not None:
                raise NotPossible(
                    f"{name} is a secret. Set it with --secret, or remove it first with `scriptrules var rm {name}`."
                )
            variable = Variable("", name, encoded, now)
            await self._store.put_variables([variable], [])
            return variable
        if not isinstance(value, str) or not value:
            raise BadVariable("A secret is text that is not empty. Put anything else into text, as JSON say.")
        KNOWN.learn(value)
        async with self._sealing:
            version = _next(await self._store.secret_versions(name))
            sealed = self.vault.seal(name, version, value, "", now)
            variable = Variable("", name, None, now, version=version)
            self._secrets.add(name)  # before it is one: no rule saves over it meanwhile
            await self._store.put_variables([variable], [sealed])
        return variable

    async def remove(self, name: str) -> Variable:
        """Remove a variable of the store; values of a secret stay as long as runs that have loaded them.

        Raises:
            NotFound: there is none.
        """
        variable = await self.get(name)
        async with self._sealing:
            await self._store.put_variables([Variable("", name, None, self._clock())], [])
            self._secrets.discard(name)
        return variable

    def is_secret(self, name: str) -> bool:
        """Whether the store's variable of this name is a secret."""
        return name in self._secrets

    async def rotate_key(self) -> int:
        """Seal every secret with a new key, and take the old one away; returns how many values there are.

        Raises:
            SecretsUnavailable: one cannot be read with the keys that there are; nothing is lost.
        """
        async with self._sealing:
            old = await self._store.secret_versions(None)
            values = [self.vault.open(secret) for secret in old]
            self.vault.add_key()
            fresh = [
                self.vault.seal(secret.name, secret.version, value, secret.source, secret.since)
                for secret, value in zip(old, values, strict=True)
            ]
            await self._store.put_variables([], fresh)
            self.vault.drop_old_keys()
        log.info("secrets.key_rotated", values=len(fresh))
        return len(fresh)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SOURCE_TIMEOUT:g} s"
    return str(error) or repr(error)


def _next(versions: Sequence[SecretVersion]) -> int:
    return max((secret.version for secret in versions), default=0) + 1
