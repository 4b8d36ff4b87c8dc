"""The client against servers that answer in ways of their own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from scriptrules.client import Client, Refused, Unreachable
from scriptrules.errors import ConfigError

Answer = Callable[[socket.socket], None]


@pytest.fixture
def served() -> Iterator[Callable[[Answer], str]]:
    """Starts a server for one connection; returns its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads = []

    def start(answer: Answer) -> str:
        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                answer(connection)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    yield start
    for thread in threads:
        thread.join(30)
    listening.close()


def saying(text: str) -> Answer:
    return lambda connection: connection.sendall(text.replace("\n", "\r\n").encode())


def test_a_problem_becomes_an_error_with_its_detail_and_code(served: Callable[[Answer], str]) -> None:
    url = served(saying('HTTP/1.0 409 Conflict\n\n{"title": "NotPossible", "detail": "It is done.", "code": "SR821"}'))
    with pytest.raises(Refused, match="It is done") as caught:
        Client(url).task("t1")
    assert (caught.value.status, caught.value.code) == (409, "SR821")


@pytest.mark.parametrize("body", ["<html>", "[]", ""])
def test_an_error_that_is_no_problem_is_told_by_its_status(served: Callable[[Answer], str], body: str) -> None:
    url = served(saying(f"HTTP/1.0 502 Bad Gateway\n\n{body}"))
    with pytest.raises(Refused, match="502 Bad Gateway"):
        Client(url).task("t1")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("HTTP/1.0 200 OK\n\n<html>", "is not scriptrules"),
        ("SSH-2.0-OpenSSH\n", "No server answers"),
        ("", "No server answers"),
        ("HTTP/1.0 200 OK\nContent-Length: 99\n\n{", "No server answers"),
    ],
)
def test_what_is_no_server_of_ours_is_told_so(served: Callable[[Answer], str], answer: str, says: str) -> None:
    with pytest.raises(Unreachable, match=says):
        Client(served(saying(answer))).task("t1")


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(served: Callable[[Answer], str]) -> None:
    with pytest.raises(Unreachable, match="timed out"):
        Client(served(lambda connection: time.sleep(1)), timeout=0.1).task("t1")


def test_a_log_that_is_followed_may_be_silent_for_longer_than_the_timeout(served: Callable[[Answer], str]) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"text": "one"}\n')
        time.sleep(1)
        connection.sendall(b'{"text": "two"}\n')

    client = Client(served(answer), timeout=0.2)
    assert [line["text"] for line in client.logs("r1", follow=True)] == ["one", "two"]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8765", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_what_is_no_url_is_an_error_that_shows_one(url: str) -> None:
    with pytest.raises(ConfigError, match="http://127"):
        Client(url)
