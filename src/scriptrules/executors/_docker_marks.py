"""By what containers and services are known again: names and labels, the same on a single engine and on a swarm."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from scriptrules.errors import InvalidRequest
from scriptrules.executors._docker_policy import Options
from scriptrules.model import ExecutionRequest
from scriptrules.plugins.executor import ExecutorContext

LABEL_STORE = "scriptrules.store"
LABEL_KEY = "scriptrules.key"
LABEL_RUN = "scriptrules.run"
LABEL_SEQ = "scriptrules.seq"
LABEL_ATTEMPT = "scriptrules.attempt"
LABEL_SPEC = "scriptrules.spec"
LABEL_OWNER = "scriptrules.owner"
LABEL_KEEP = "scriptrules.keep"
LABEL_SECRETS = "scriptrules.secrets"  # the paths of files with secrets, not what is in them

Found = Mapping[str, Any]  # what an engine says of a container or a service


class Marks:
    """The names and labels of what one supervisor makes on one host.

    Args:
        kind: what is made there: "container" | "service".
        labels_in: where an engine has the labels of one.
        context: the installation.
    """

    def __init__(self, kind: str, labels_in: Callable[[Found], Mapping[str, str] | None], context: ExecutorContext):
        self._kind = kind
        self._labels_in = labels_in
        self._context = context
        self._owner = uuid.uuid4().hex  # tells what this object has made from what earlier supervisors have

    @property
    def filters(self) -> dict[str, str]:
        """For an engine's lists: all that this store has made."""
        return {"label": f"{LABEL_STORE}={self._context.store_id}"}

    def name_of(self, key: str) -> str:
        return f"scriptrules-{re.sub('[^a-zA-Z0-9]', '', self._context.store_id)[:8]}-{key}"

    def labels_of(self, request: ExecutionRequest, options: Options) -> dict[str, str]:
        """The labels of what is made for `request`."""
        labels = {
            **options.labels,
            LABEL_STORE: self._context.store_id,
            LABEL_KEY: request.key,
            LABEL_RUN: request.run,
            LABEL_SEQ: str(request.seq),
            LABEL_ATTEMPT: str(request.attempt),
            LABEL_SPEC: spec_digest(request),
            LABEL_OWNER: self._owner,
            LABEL_KEEP: "1" if options.keep else "0",
        }
        if request.secret_files:
            labels[LABEL_SECRETS] = msgspec.json.encode(sorted(request.secret_files)).decode()
        return labels

    def is_ours(self, found: Found, key: str) -> bool:
        """Whether it is this store's, of this execution."""
        labels = self._labels_in(found) or {}
        return (labels.get(LABEL_STORE), labels.get(LABEL_KEY)) == (self._context.store_id, key)

    def is_own(self, found: Found) -> bool:
        """Whether this very supervisor has made it."""
        return (self._labels_in(found) or {}).get(LABEL_OWNER) == self._owner

    def check_taken(self, found: Found, request: ExecutionRequest) -> None:
        """Raise InvalidRequest where what has the name of `request` was not made for it."""
        name, host = self.name_of(request.key), self._context.host
        if not self.is_ours(found, request.key):
            raise InvalidRequest(
                f"the name {name!r} is taken on host {host!r} by a {self._kind} that is not ours. "
                f"Remove or rename that {self._kind}."
            )
        if (self._labels_in(found) or {}).get(LABEL_SPEC) != spec_digest(request):
            raise InvalidRequest(f"the {self._kind} {name!r} on host {host!r} was made for other arguments. Remove it.")


def spec_digest(request: ExecutionRequest) -> str:
    """What was asked for, as a digest: tells what was made for another request under the same name."""
    parts = [request.image, request.args, request.env, request.options, request.input, sorted(request.secret_files)]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]
