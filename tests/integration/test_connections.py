"""What hostile or slow clients can take of the server, with real sockets: nothing of what others get."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Iterator

import pytest

from serving import Server, eventually, project

HEAD = b"POST /api/tasks HTTP/1.1\r\nhost: 127.0.0.1\r\n"
TASK = b'{"name": "x"}'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config("[server]\nread_timeout = 1.0\nwrite_timeout = 1.0\nconnections = 20\n")
        server.start()
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def answer(client: socket.socket) -> bytes:
    """All that the server says until it closes the connection."""
    found = b""
    try:
        while part := client.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def health(client: socket.socket) -> bytes:
    """The whole answer of /healthz, after which the connection goes on."""
    found = b""
    while not found.endswith(b"}"):
        part = client.recv(65536)
        assert part
        found += part
    return found


def trickle(client: socket.socket, *pieces: bytes) -> None:
    """Send a piece now and then, until there are no more or the server says or does something."""
    for piece in pieces:
        client.sendall(piece)
        if select.select([client], [], [], 0.1)[0]:  # what is sent from here on would make the kernel forget its answer
            return


def test_a_head_that_trickles_is_given_up(server: Server) -> None:
    with connect(server) as slow, connect(server) as silent:
        trickle(slow, *([HEAD] + [b"x: y\r\n"] * 30))
        said = answer(slow)
        assert said.startswith(b"HTTP/1.1 408")
        assert b"SR826" in said
        assert answer(silent) == b""


def test_the_second_head_on_a_connection_is_bounded_like_the_first(server: Server) -> None:
    with connect(server) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert health(slow).startswith(b"HTTP/1.1 200")
        trickle(slow, *([HEAD] + [b"x: y\r\n"] * 30))
        assert answer(slow).startswith(b"HTTP/1.1 408")


def test_a_head_without_end_is_refused(server: Server) -> None:
    with connect(server) as flooding:
        trickle(flooding, HEAD, *[b"x: " + b"y" * 20_000 + b"\r\n"] * 5)
        assert answer(flooding).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "head", [b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"], ids=["sized", "chunked"]
)
def test_a_body_that_trickles_is_given_up(server: Server, head: bytes) -> None:
    piece = b" " if b"length" in head else b"1\r\n \r\n"
    with connect(server) as slow:
        trickle(slow, HEAD + head, *[piece] * 30)
        assert answer(slow).startswith(b"HTTP/1.1 408")


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(server: Server) -> None:
    with connect(server) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000\r\n\r\n")
        assert health(slow).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        trickle(slow, *[b"z"] * 40)
        assert answer(slow) == b""
        assert time.monotonic() - began < 20


def test_a_body_in_pieces_that_comes_in_time_is_taken(server: Server) -> None:
    with connect(server) as client:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in TASK)
        for part in (HEAD, b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n", chunks, b"0\r\n\r\n"):
            client.sendall(part)
        assert answer(client).startswith(b"HTTP/1.1 202")


def test_who_comes_when_there_are_too_many_connections_is_told_so_and_those_that_are_there_go_on(
    server: Server,
) -> None:
    streams = []
    for _ in range(20):
        stream = connect(server)
        stream.sendall(b"GET /api/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        streams.append(stream)
    with connect(server) as late:
        said = answer(late)
        assert said.startswith(b"HTTP/1.1 429")
        assert b"raise connections under [server]" in said
    streams.pop().close()
    eventually(lambda: server.get("/healthz")["status"] == "ok", "there is room again")
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("path", ["/api/events?after=0", "/api/runs/{run}/logs?follow=1", "/api/tasks?limit=1000"])
def test_who_takes_nothing_of_a_long_answer_is_dropped(server: Server, path: str) -> None:
    text = "y" * 2000
    server.rule(
        "log", 'on = "log"\ndef main(text):\n    for _ in range(20):\n        log(text)\n    receive("never")\n'
    )
    eventually(lambda: server.get("/api/rules")["items"], "the rule is active")
    server.send_many([{"name": "x", "data": {"text": text}}] * 3000)
    run = server.wait_run(server.send("log", text=text), {"waiting"})["id"]
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(30)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(b"GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % path.format(run=run).encode())
        eventually(lambda: not established(slow), "it is cut off")


def established(client: socket.socket) -> bool:
    """Whether the server's end of a connection is there: asked of the kernel, because who asks the socket reads."""
    port = f":{client.getsockname()[1]:04X}"
    with open("/proc/net/tcp") as table:
        return any(line.split()[2].endswith(port) and line.split()[3] == "01" for line in table)


def test_a_healthy_client_is_served_while_others_trickle(server: Server) -> None:
    crowd = [connect(server) for _ in range(10)]
    for one in crowd:
        one.sendall(HEAD)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(5):
        connection.request("POST", "/api/tasks", TASK, {"content-type": "application/json"})
        assert connection.getresponse().read().startswith(b'{"id"')
    connection.close()
    for one in crowd:
        one.close()
