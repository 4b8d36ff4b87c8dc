"""The connection to one Docker engine: requests through the SDK, streams through the event loop.

What was tried and rejected: the SDK for endless streams (each takes a thread for its whole life, and cannot be ended
without reaching into its socket); aiodocker for all (no faster, a second client library); the SDK's own ssh transport
(needs paramiko, its streams cannot be cancelled at all, and it ignores much of the user's ssh configuration).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors._docker_policy import HostTable
from scriptrules.executors._docker_result import ENGINE_STREAM, LogFrame, log_frames
from scriptrules.executors._docker_tunnel import CONNECT_TIMEOUT, Tunnel

if TYPE_CHECKING:
    import docker

REQUEST_THREADS = 4  # of one host
IDLE = 2.0  # seconds without a request after which connections that are kept alive are closed
SHUTDOWN_TIMEOUT = 1.0  # seconds that an engine has to say goodbye to an encrypted stream
REQUEST_TIMEOUT = 120  # seconds; a busy engine takes long to start many containers
_T = TypeVar("_T")
_ANSWER_MAX = 16 * 1024 * 1024  # bytes
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
        self._tunnel: Tunnel | None = None
        self._tunnelling = asyncio.Lock()
        self._under_way = 0
        self._idle: asyncio.TimerHandle | None = None
        self._closing = False

    async def request(self, do: Callable[[docker.APIClient], Any]) -> Any:
        """What `do` returns, called in a thread with the SDK's client; for what the engine answers at once.

        Raises:
            EngineError: the engine refused.
            HostUnavailable: it could not be reached, or did not answer; what was asked may have been done or not.
        """
        if self._closing:
            raise HostUnavailable(f"host {self._host!r} is closed. Start the supervisor again.")
        url = await self._url()
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._request, url, do)
        finally:
            self._under_way -= 1
            if self._idle is None and not self._closing:
                self._idle = asyncio.get_running_loop().call_later(IDLE, self._close_idle)

    def _close_idle(self) -> None:
        """Let go of connections that nobody uses: hundreds of waiting executions need none but the event stream."""
        self._idle = None
        if self._under_way:
            self._idle = asyncio.get_running_loop().call_later(IDLE, self._close_idle)
        elif self._client is not None:
            self._client.close()

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """What `work`, which may block, returns."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

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
    async def stream(
        self,
        path: str,
        query: Mapping[str, str],
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> AsyncIterator[asyncio.StreamReader]:
        """The body of an answer to `path` that may be endless, read by the event loop.

        It is asked for in HTTP/1.0, so that it comes plain and ends with the connection.

        Raises:
            EngineError, HostUnavailable: as `request`.
        """
        reader, writer = await self._dial()
        try:
            target = f"{quote(path)}?{urlencode(query)}"
            fields = {
                "Host": "docker",
                "User-Agent": "scriptrules",
                "Content-Length": str(len(body)),
                **(headers or {}),
            }
            if body:
                fields.setdefault("Content-Type", "application/x-tar")
            lines = [f"{method} {target} HTTP/1.0", *(f"{name}: {value}" for name, value in fields.items())]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
            try:
                await writer.drain()
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
                if status not in (200, 201, 204, 304):  # 304: it was done before
                    message = _message_of(await reader.read(_LINE_MAX))
                    raise self.unavailable(message) if status == 503 else EngineError(status, message)
            except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
                raise self.unavailable(_root_cause(error)) from None
            yield reader
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def command(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Have the engine do what may take it long, such as to start a container; no thread waits for it.

        Args:
            body: a tar archive.

        Raises:
            EngineError, HostUnavailable: as `request`.
        """
        if self._closing:
            raise HostUnavailable(f"host {self._host!r} is closed. Start the supervisor again.")
        async with self.stream(path, query or {}, method, body=body):
            return

    async def make(self, path: str, document: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """What the engine says of what it was asked to make, as `document` describes it.

        Raises:
            EngineError, HostUnavailable: as `request`.
        """
        sent = {"Content-Type": "application/json", **headers}
        async with self.stream(path, {}, "POST", sent, msgspec.json.encode(document)) as reader:
            return self._decoded(await self._whole(reader, _ANSWER_MAX))

    async def exists(self, container: str, path: str) -> bool:
        """Whether a container has a file or folder there."""
        try:
            async with self.stream(f"/containers/{container}/archive", {"path": path}, method="HEAD"):
                return True
        except EngineError as error:
            if error.status == 404:
                return False
            raise

    async def inspect(self, container: str) -> dict[str, Any]:
        """What the engine says of a container, whatever else is asked of it: no thread is waited for.

        Raises:
            EngineError, HostUnavailable: as `request`.
        """
        return self._decoded(await self.read(f"/containers/{container}/json", {}, _ANSWER_MAX))

    def _decoded(self, answer: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise self.unavailable(f"an answer broke off ({error})") from None

    async def read(self, path: str, query: dict[str, str], limit: int) -> bytes:
        """The answer to GET `path`, or its first `limit` bytes."""
        async with self.stream(path, query) as reader:
            return await self._whole(reader, limit)

    async def _whole(self, reader: asyncio.StreamReader, limit: int) -> bytes:
        """An answer to its end, or its first `limit` bytes."""
        data = bytearray()
        try:
            while len(data) < limit and (chunk := await reader.read(limit)):
                data += chunk
        except OSError as error:
            raise self.unavailable(_root_cause(error)) from None
        return bytes(data)

    async def logs(
        self, name: str, follow: bool, since: str = "", of: str = "containers"
    ) -> AsyncGenerator[LogFrame, None]:
        """The log of a container or service, frame by frame; with `follow` until it ends.

        Args:
            since: the stamp of the first frame that is wanted.
            of: "containers" | "services".
        """
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
        if since:
            seconds, _, fraction = since.rstrip("Z").partition(".")
            query["since"] = f"{clock.parse(seconds + 'Z') // clock.SECOND}.{fraction.ljust(9, '0')}"
        async with self.stream(f"/{of}/{name}/logs", query) as reader:
            try:
                async for frame in log_frames(reader):
                    if frame.stream == ENGINE_STREAM:
                        raise self.unavailable(f"a log broke off ({frame.data.decode(errors='replace').strip()})")
                    yield frame
            except (OSError, EOFError) as error:
                raise self.unavailable(f"a log broke off ({_root_cause(error)})") from None

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
                ending = SHUTDOWN_TIMEOUT if secure else None
                return await asyncio.open_connection(
                    url.hostname, port, ssl=secure, limit=_LINE_MAX, ssl_shutdown_timeout=ending
                )
        except (OSError, TimeoutError) as error:
            raise self.unavailable(_root_cause(error)) from None

    def _tls_files(self) -> tuple[str, str, str]:
        ca, cert, key = map(self._file, (self._table.tls_ca, self._table.tls_cert, self._table.tls_key))
        return ca, cert, key

    def _file(self, name: str | None) -> str:
        return str(self._base_dir / name) if name else ""

    async def _url(self) -> str:
        if not self._table.url.startswith("ssh://"):
            return self._table.url
        async with self._tunnelling:
            if self._tunnel is None or not self._tunnel.alive:
                await self._close_tunnel()
                self._tunnel = await Tunnel.open(self._table.url, self._file(self._table.ssh_config), self.unavailable)
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
        if self._idle is not None:
            self._idle.cancel()
        await asyncio.to_thread(self._threads.shutdown, True, cancel_futures=True)
        self._drop_client()
        await self._close_tunnel()


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
