"""A remote engine's socket as a local one, through the user's own ``ssh``."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from scriptrules import clock
from scriptrules.errors import HostUnavailable

CONNECT_TIMEOUT = 15.0  # seconds
ENGINE_SOCKET = "/var/run/docker.sock"


class Tunnel:
    """A local socket that `ssh` forwards to a remote engine's, by the user's own ssh configuration."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.socket = folder / "s"

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @classmethod
    async def open(cls, url: str, config: str, unavailable: Callable[[str], HostUnavailable]) -> Tunnel:
        parts = urlsplit(url)
        folder = Path(tempfile.mkdtemp(prefix="scriptrules-"))
        target = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        where = ["-p", str(parts.port)] if parts.port else []
        where += ["-F", config] if config else []
        options = ["BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ConnectTimeout=15"]
        remote = parts.path if parts.path not in ("", "/") else ENGINE_SOCKET
        arguments = [*(f"-o{option}" for option in options), *where, "-nNT", "-L", f"{folder / 's'}:{remote}"]
        try:
            process = await asyncio.create_subprocess_exec(
                "ssh", *arguments, "--", target, stderr=asyncio.subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise unavailable(f"ssh does not start: {error.strerror}") from None
        tunnel = cls(process, folder)
        started = clock.monotonic()
        while not tunnel.socket.exists():
            if not tunnel.alive or clock.monotonic() - started > CONNECT_TIMEOUT:
                reason = await tunnel.close()
                raise unavailable(reason or "ssh made no connection in time")
            await asyncio.sleep(0.05)
        return tunnel

    async def close(self) -> str:
        """End ssh; what it said last."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        _, said = await self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
        return said.decode(errors="replace").strip().rpartition("\n")[2]
