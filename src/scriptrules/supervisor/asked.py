"""Which starts hosts may have been asked for: notes beside the store, written before a host hears of the start.

An entry that an earlier supervisor left pending was either never asked for, as one that waited for a slot, and may
still be called `once`, or perhaps was. What was tried and rejected: a transition of the entry (one more commit for
each execution, to be read again only after a kill).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Asked:
    """The notes of one store; without a folder nothing is known of what earlier supervisors did.

    Args:
        folder: on the machine that has the store; None where the store is shared by several machines.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="asked")
        self._old = set(os.listdir(folder)) if folder is not None and folder.is_dir() else set[str]()

    def certainly_not(self, key: str) -> bool:
        """Whether no supervisor can have asked a host to start `key` before."""
        return self._folder is not None and not (self._folder / key).exists()

    async def note(self, key: str) -> None:
        """Have it on the disk that a host is about to be asked for `key`."""
        if self._folder is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, _write, self._folder, key)

    def forget(self, key: str) -> None:
        """Its end is committed."""
        if self._folder is not None:
            (self._folder / key).unlink(missing_ok=True)

    def tidy(self, under_way: Set[str]) -> None:
        """Forget what earlier supervisors could not any more."""
        for key in self._old - under_way:
            self.forget(key)
        self._old.clear()

    def close(self) -> None:
        """Write nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _write(folder: Path, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / key).touch()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
