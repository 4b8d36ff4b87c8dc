"""One process: the supervisor and the HTTP server in one event loop, started and stopped in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable

import structlog
import uvicorn
import uvloop

from scriptrules.config import Config
from scriptrules.errors import ConfigError
from scriptrules.incoming import secret_of
from scriptrules.plugins.manager import Plugins
from scriptrules.store.make import make_store
from scriptrules.store.protocol import Store
from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.web.app import make_app
from scriptrules.web.connections import bounded
from scriptrules.web.gate import is_loopback

log = structlog.get_logger(__name__)

BACKLOG = 1024
GC_THRESHOLD = (50_000, 20, 50)  # tasks are made of many small objects; the default spends a sixth of the time on them
KEEP_ALIVE = 30  # seconds that an idle connection is kept, longer than a busy client pauses
GRACE = 5  # seconds for requests under way when the server stops


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handlers: stopping is ours, because the supervisor has to stop after it."""

    def install_signal_handlers(self) -> None:
        return


def serve(config: Config, listening: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        listening: called with the address once the server is ready.

    Raises:
        ConfigError, StoreUnavailable, StoreInUse, SandboxUnavailable: it cannot start, with what to do.
    """
    uvloop.run(_serve(config, listening))


async def _serve(config: Config, listening: Callable[[str], None]) -> None:
    for name, hook in config.hooks.items():
        secret_of(name, hook, config.base)  # so that one that is missing is known before anything has begun
    sock = _bind(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    supervisor = Supervisor(config, make_store(config), Plugins(config.plugins_dir))
    try:
        await _check_tokens(config, supervisor.store)
        await supervisor.start()
        server = _Server(
            uvicorn.Config(
                make_app(supervisor),
                loop="none",
                http=bounded(config.server),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        gc.freeze()  # what is there now stays
        gc.set_threshold(*GC_THRESHOLD)
        serving = asyncio.create_task(server._serve([sock]))  # `serve` would capture the signals that are ours
        host, port = sock.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        log.info("server.ready", address=address, rules=len(supervisor.rules.active))
        listening(address)
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        log.info("server.stopping")
        supervisor.feed.close()
        server.should_exit = True
        waiting.cancel()
        await serving
        await supervisor.close()
    finally:
        sock.close()
    log.info("server.stopped")


async def _check_tokens(config: Config, store: Store) -> None:
    """Beyond loopback nobody is let in without a token, so there has to be one."""
    if is_loopback(config.listen_address[0]):
        return
    await store.open()
    try:
        tokens = await store.tokens()
    finally:
        await store.close()
    if not tokens:
        raise ConfigError(
            f"listen = {config.server.listen!r} is beyond loopback, and there is no token yet. Make one with "
            f"`scriptrules token add NAME --role admin`, then start again; or listen on 127.0.0.1."
        )


def _bind(config: Config) -> socket.socket:
    host, port = config.listen_address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # closing a connection would wait for ever for who takes nothing
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(config.server.write_timeout * 1000))
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"{config.server.listen} cannot be listened on: {error.strerror}. Stop what uses it, or choose another "
            f"with --listen 127.0.0.1:0."
        ) from None
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock
