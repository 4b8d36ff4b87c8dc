"""The connection to one Docker engine: requests through the SDK, streams through the event loop.

What was tried and rejected: the SDK for endless streams (each takes a thread for its whole life, and cannot be ended
without reaching into its socket); aiodocker for all (no faster, a second client library); the SDK's own ssh transport
(needs paramiko, its streams cannot be cancelled at all, and it ignores much of the user's ssh configuration).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors._docker_policy import HostTable
from scriptrules.executors._docker_result import log_frames

if TYPE_CHECKING:
    import docker

REQUEST_THREADS = 8  # of one host
REQUEST_TIMEOUT = 120  # seconds; a busy engine takes long to start many containers
CONNECT_TIMEOUT = 15.0  # seconds
ENGINE_SOCKET = "/var/run/docker.sock"
_LINE_MAX = 1024 * 1024  # bytes of one event


class EngineError(Exception):
    """The engine answered, and refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Engine:
    """One engine, connected when it is first used, and again after it was lost."""

    def __init__(self, table: HostTable, host: str, base_dir: Path) -> None:
        self._table = table
        self._host = host
        self._base_dir = base_dir
        self._threads = ThreadPoolExecutor(REQUEST_THREADS, thread_name_prefix=f"docker-{host}")
        self._client: docker.APIClient | None = None
        self._connecting = threading.Lock()
        self._tunnel: _Tunnel | None = None
        self._tunnelling = asyncio.Lock()
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def request(self, do: Callable[[docker.APIClient], Any]) -> Any:
        """What `do` returns, called in a thread with the SDK's client.

        Raises:
            EngineError: the engine refused.
            HostUnavailable: it could not be reached, or did not answer; what was asked may have been done or not.
        """
        if self._closing:
            raise HostUnavailable(f"host {self._host!r} is closed. Start the supervisor again.")
        url = await self._url()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._request, url, do)

    def _request(self, url: str, do: Callable[[docker.APIClient], Any]) -> Any:
        import docker.errors
        import requests
        import urllib3.exceptions

        try:
            _probe(url)
            return do(self._connected(url))
        except docker.errors.APIError as error:
            message = str(error.explanation or error)
            if error.status_code == 503:
                raise self.unavailable(message) from None
            raise EngineError(error.status_code or 0, message) from None
        except docker.errors.DockerException as error:
            raise EngineError(0, str(error)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self.unavailable(_root_cause(error)) from None

    def _connected(self, url: str) -> docker.APIClient:
        with self._connecting:
            if self._client is None:
                import docker

                oldest = docker.constants.MINIMUM_DOCKER_API_VERSION
                try:
                    with contextlib.closing(self._make_client(url, oldest)) as asking:
                        version = asking.version(api_version=False)["ApiVersion"]
                    self._client = self._make_client(url, version)
                except docker.errors.DockerException as error:
                    raise self.unavailable(_root_cause(error)) from None
            return self._client

    def _make_client(self, url: str, version: str) -> docker.APIClient:
        import docker

        tls: Any = False
        if self._table.tls_cert:
            ca, cert, key = self._tls_files()
            tls = docker.tls.TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
        client = docker.APIClient(url, version=version, timeout=REQUEST_TIMEOUT, tls=tls, max_pool_size=REQUEST_THREADS)
        # REQUESTS_CA_BUNDLE, meant for the web, would go before the host's tls_ca.
        client.trust_env = False
        return client

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: dict[str, str]) -> AsyncIterator[asyncio.StreamReader]:
        """The body of an endless answer to GET `path`, read by the event loop.

        It is asked for in HTTP/1.0, so that it comes plain and ends with the connection.

        Raises:
            EngineError, HostUnavailable: as `request`.
        """
        reader, writer = await self._dial()
        try:
            target = f"{quote(path)}?{urlencode(query)}"
            writer.write(f"GET {target} HTTP/1.0\r\nHost: docker\r\nUser-Agent: scriptrules\r\n\r\n".encode())
            try:
                await writer.drain()
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
                if status != 200:
                    raise EngineError(status, _message_of(await reader.read(_LINE_MAX)))
            except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
                raise self.unavailable(_root_cause(error)) from None
            yield reader
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def read(self, path: str, query: dict[str, str], limit: int) -> bytes:
        """The answer to GET `path`, or its first `limit` bytes."""
        data = bytearray()
        async with self.stream(path, query) as reader:
            try:
                while len(data) < limit and (chunk := await reader.read(limit)):
                    data += chunk
            except OSError as error:
                raise self.unavailable(_root_cause(error)) from None
        return bytes(data)

    async def logs(self, container: str, follow: bool) -> AsyncGenerator[tuple[str, bytes], None]:
        """The log of a container, piece by piece, as (stream, data); with `follow` until it ends."""
        query = {"stdout": "1", "stderr": "1", "follow": str(int(follow))}
        async with self.stream(f"/containers/{container}/logs", query) as reader:
            try:
                async for frame in log_frames(reader):
                    yield frame
            except (OSError, EOFError) as error:
                raise self.unavailable(f"a log broke off ({_root_cause(error)})") from None

    async def pull(self, image: str) -> None:
        """Have the engine pull `image`; those who ask for the same at the same time share one pull."""
        task = self._pulls.get(image)
        if task is None:

            def pull(client: docker.APIClient) -> None:
                for event in client.pull(image, stream=True, decode=True):
                    if "error" in event:
                        raise EngineError(0, event["error"])
                    if self._closing:
                        raise self.unavailable("the supervisor stops")

            task = self._pulls[image] = asyncio.get_running_loop().create_task(self.request(pull))
            task.add_done_callback(lambda _: self._pulls.pop(image, None))
        await asyncio.shield(task)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(await self._url())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if url.scheme == "unix":
                    return await asyncio.open_unix_connection(url.path, limit=_LINE_MAX)
                secure = None
                if self._table.tls_cert:
                    ca, cert, key = self._tls_files()
                    secure = ssl.create_default_context(cafile=ca)
                    secure.load_cert_chain(cert, key)
                port = url.port or (2376 if secure else 2375)
                return await asyncio.open_connection(url.hostname, port, ssl=secure, limit=_LINE_MAX)
        except (OSError, TimeoutError) as error:
            raise self.unavailable(_root_cause(error)) from None

    def _tls_files(self) -> tuple[str, str, str]:
        files = (self._table.tls_ca, self._table.tls_cert, self._table.tls_key)
        ca, cert, key = (str(self._base_dir / (name or "")) for name in files)
        return ca, cert, key

    async def _url(self) -> str:
        if not self._table.url.startswith("ssh://"):
            return self._table.url
        async with self._tunnelling:
            if self._tunnel is None or not self._tunnel.alive:
                await self._close_tunnel()
                self._tunnel = await _Tunnel.open(self._table.url, self.unavailable)
                self._drop_client()
            return f"unix://{self._tunnel.socket}"

    def unavailable(self, reason: str) -> HostUnavailable:
        return HostUnavailable(
            f"host {self._host!r} ({self._table.url}) cannot be reached: {reason}. Start its Docker engine or correct "
            f"url under [hosts.{self._host}]; its executions wait until then."
        )

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _close_tunnel(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            await tunnel.close()

    async def close(self) -> None:
        """Let go of the engine once the requests under way have been answered."""
        self._closing = True
        await asyncio.gather(*self._pulls.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown, True, cancel_futures=True)
        self._drop_client()
        await self._close_tunnel()


class _Tunnel:
    """A local socket that `ssh` forwards to a remote engine's, by the user's own ssh configuration."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.socket = folder / "s"

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @classmethod
    async def open(cls, url: str, unavailable: Callable[[str], HostUnavailable]) -> _Tunnel:
        parts = urlsplit(url)
        folder = Path(tempfile.mkdtemp(prefix="scriptrules-"))
        target = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        port = ["-p", str(parts.port)] if parts.port else []
        options = ["BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ConnectTimeout=15"]
        remote = parts.path if parts.path not in ("", "/") else ENGINE_SOCKET
        arguments = [*(f"-o{option}" for option in options), *port, "-nNT", "-L", f"{folder / 's'}:{remote}"]
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


def _probe(url: str) -> None:
    """Raise OSError where nothing listens on a local socket: the SDK would leak one for each refused connection."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_TIMEOUT)
            probe.connect(parts.path)


def _message_of(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


def _root_cause(error: BaseException) -> str:
    """What the innermost error says; the SDK wraps a refused connection four times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")
