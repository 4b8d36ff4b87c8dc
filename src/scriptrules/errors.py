"""Every error that scriptrules raises on purpose, as one set.

Each class has a stable `code`, its docstring is the default message, and the text ends with what to do next.
Errors that reach a rule's author travel through the journal as `Failure` (see `scriptrules.model`) and come back as the
same class. The signals that end a script (`scriptrules.sandbox.signals`) are not errors: they derive from BaseException
and no rule can catch them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ScriptrulesError(Exception):
    """Something went wrong in scriptrules."""

    code = "SR900"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self.args[0])


class ConfigError(ScriptrulesError):
    """The configuration cannot be used. Correct scriptrules.toml and start again."""

    code = "SR800"


class BadTask(ScriptrulesError):
    """The task is not acceptable. A task is {"name": "dotted.name", "data": {…}}."""

    code = "SR810"


class TooLarge(BadTask):
    """The body is too large. Put the bulk somewhere else and send a reference to it."""

    code = "SR811"


class KeyConflict(ScriptrulesError):
    """The key was used for another task. Use a new key, or send the same name and data again."""

    code = "SR812"


class BadSignature(ScriptrulesError):
    """The delivery is not signed with the secret of this hook. Nothing was stored; give both sides the same secret."""

    code = "SR815"


class NotFound(ScriptrulesError):
    """There is no such thing. List what exists with `scriptrules tasks` or `scriptrules runs`."""

    code = "SR820"


class NotPossible(ScriptrulesError):
    """The state that it is in does not allow this."""

    code = "SR821"


class Misdirected(ScriptrulesError):
    """The request was not meant for this server. Use the address that it listens on."""

    code = "SR822"


class Unauthorized(ScriptrulesError):
    """This needs a token. Set SCRIPTRULES_TOKEN, or send `Authorization: Bearer TOKEN`."""

    code = "SR823"


class Forbidden(ScriptrulesError):
    """The role of the token does not allow this. Ask for a token of another role."""

    code = "SR824"


class TooMany(ScriptrulesError):
    """These are too many requests. Wait a second, or raise rate under [server]."""

    code = "SR825"


class TooSlow(ScriptrulesError):
    """The body did not come in time. Send it in parts, or raise read_timeout under [server]."""

    code = "SR826"


class StoreUnavailable(ScriptrulesError):
    """The store cannot be written. Nothing was accepted; free disk space or permissions, then send it again."""

    code = "SR830"


class StoreInUse(ScriptrulesError):
    """Another scriptrules serves this store. Stop that one first, or give this one a --store of its own."""

    code = "SR831"


class Draining(StoreUnavailable):
    """The server is being drained and takes no tasks. Send it again once the next server is there."""

    code = "SR832"


class SandboxUnavailable(ScriptrulesError):
    """Workers cannot be started. `scriptrules doctor` shows which wall is missing."""

    code = "SR840"


class InvalidRequest(ScriptrulesError):
    """The executor cannot do this. Correct the arguments of `run()`."""

    code = "SR850"


class PolicyRefused(InvalidRequest):
    """The host's policy does not allow this. Allow it under [hosts.NAME] in scriptrules.toml, or ask for less."""

    code = "SR851"


class HostUnavailable(ScriptrulesError):
    """The host cannot be reached. Its executions wait until it can be."""

    code = "SR852"


class PluginError(ScriptrulesError):
    """A plugin misbehaved. Its name and what it did are in the message."""

    code = "SR860"


class SecretsUnavailable(ScriptrulesError):
    """Secrets cannot be read or kept. `scriptrules doctor` looks at their key file."""

    code = "SR861"


class BadVariable(BadTask):
    """The variable is not acceptable. A name is made of segments of letters, digits, _ and - with dots."""

    code = "SR814"


class ExecutionFailed(ScriptrulesError):
    """An execution failed. Catch ExecutionFailed around wait(), or pass check=False."""

    code = "SR870"


class CallFailed(ScriptrulesError):
    """What was called failed. Catch CallFailed around call() or wait()."""

    code = "SR871"


def nearest(word: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown word ends: `", did you mean 'image'?"`, or `"."` where none is like it."""
    match = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f", did you mean {match[0]!r}?" if match else "."
