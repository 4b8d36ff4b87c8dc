"""Who may use the API: tokens, roles, sessions of browsers; and what is kept out of it altogether."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scriptrules.client import Client, Refused
from serving import Server, eventually, project


@pytest.fixture
def server() -> Iterator[Server]:
    with project() as server:
        server.start()
        yield server


def client_of(server: Server, token: str | None = None) -> Client:
    return Client(f"http://127.0.0.1:{server.port}", token=token)


def ask(
    server: Server, method: str, path: str, body: object = None, address: str = "127.0.0.1", **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers of an answer."""
    connection = http.client.HTTPConnection(address, server.port, timeout=30)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), given)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None, {k.lower(): v for k, v in answer.getheaders()}


def cli(server: Server, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scriptrules", *arguments],
        cwd=server.folder,
        env={"PATH": "/usr/bin:/bin", **environ},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_while_there_is_no_token_this_machine_may_do_everything_and_from_then_on_nobody_without(server: Server) -> None:
    assert client_of(server).whoami() == {"name": None, "role": "admin", "tokens": False}
    with pytest.raises(Refused, match="first token has to be an admin's"):
        client_of(server).add_token("bob", "viewer")
    made = client_of(server).add_token("ada", "admin")
    status, problem, headers = ask(server, "GET", "/api/tasks")
    assert (status, problem["code"], headers["www-authenticate"]) == (401, "SR823", "Bearer")
    assert "SCRIPTRULES_TOKEN" in problem["detail"]
    assert ask(server, "GET", "/readyz")[0] == 200
    assert client_of(server, made["token"]).whoami() == {"name": "ada", "role": "admin", "tokens": True}
    with pytest.raises(Refused, match="not known"):
        client_of(server, made["token"] + "x").tasks(1)
    server.kill()
    server.start()
    assert [one["name"] for one in client_of(server, made["token"]).tokens()] == ["ada"]
    store = sqlite3.connect(server.folder / ".scriptrules" / "state.db")
    dump = "\n".join(store.iterdump())
    store.close()
    assert made["token"] not in dump
    assert made["token"] not in server.log.read_text()


def test_roles_decide_what_may_be_done_and_the_audit_says_who_did_it(server: Server) -> None:
    admin = client_of(server, client_of(server).add_token("ada", "admin")["token"])
    operator = client_of(server, admin.add_token("ops", "operator")["token"])
    viewer = client_of(server, admin.add_token("eve", "viewer")["token"])
    assert viewer.tasks(1) == []
    for refused in (
        lambda: viewer.send("a", {}),
        viewer.tokens,
        lambda: operator.set_variable("x", 1, False),
        lambda: operator.add_token("me", "admin"),
    ):
        with pytest.raises(Refused) as problem:
            refused()
        assert (problem.value.status, problem.value.code) == (403, "SR824")
    operator.set_breakpoint({"on": ["a"], "name": "b", "who": "somebody else"})
    task = operator.send("a", {})
    while viewer.task(task)["state"] != "held":
        time.sleep(0.02)
    operator.verb(task, "drop", who="somebody else")
    status, page, _ = ask(server, "GET", "/api/audit", authorization=f"Bearer {viewer_token(admin)}")
    assert status == 200
    assert [(one["who"], one["verb"]) for one in page["items"]][1:6] == [
        ("ops", "drop"), ("ops", "break"), ("ada", "token"), ("ada", "token"), ("somebody", "token"),
    ]  # fmt: skip


def viewer_token(admin: Client) -> str:
    return admin.add_token("another", "viewer")["token"]


def test_a_revoked_token_is_refused_at_once_and_the_last_admin_stays(server: Server) -> None:
    admin = client_of(server, client_of(server).add_token("ada", "admin")["token"])
    viewer = client_of(server, admin.add_token("eve", "viewer")["token"])
    with pytest.raises(Refused, match="already"):
        admin.add_token("eve", "viewer")
    with pytest.raises(Refused, match="last token of an admin"):
        admin.revoke_token("ada")
    assert admin.revoke_token("eve")["role"] == "viewer"
    with pytest.raises(Refused, match="not known"):
        viewer.tasks(1)
    with pytest.raises(Refused, match="no token 'eve'"):
        admin.revoke_token("eve")
    admin.revoke_token("ada")
    assert client_of(server).whoami()["tokens"] is False


@contextlib.contextmanager
def follow(server: Server, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """An answer that lasts, once it has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        assert response.readline()
        yield response


def read_until(stream: http.client.HTTPResponse, text: bytes) -> None:
    """Read lines until one has `text`, or, for the empty one, until the server has ended the answer."""
    deadline = time.monotonic() + 30
    while (line := stream.readline()) and not (text and text in line):
        assert time.monotonic() < deadline, "it goes on and on"
    assert text in line


@pytest.mark.parametrize("path", ["/api/events", "/api/runs/{run}/logs?follow=1"])
def test_what_is_open_ends_when_who_asked_may_have_it_no_longer(server: Server, path: str) -> None:
    server.rule("wait", 'on = "wait"\ndef main():\n    log("here")\n    receive("never")\n')
    eventually(lambda: server.get("/api/rules")["items"], "the rule is active")
    path = path.format(run=server.wait_run(server.send("wait"), {"waiting"})["id"])
    with follow(server, path) as nameless:
        ada = client_of(server).add_token("ada", "admin")["token"]
        read_until(nameless, b"")  # there are tokens now, and it gave none
    admin = client_of(server, ada)
    eve = admin.add_token("eve", "viewer")["token"]
    with (
        follow(server, path, authorization=f"Bearer {eve}") as hers,
        follow(server, "/api/events", authorization=f"Bearer {ada}") as mine,
    ):
        admin.revoke_token("eve")
        read_until(hers, b"")
        admin.send("still.there", {})
        read_until(mine, b"still.there")
    admin.add_token("eve", "viewer")  # the same name is not the same token
    assert ask(server, "GET", path, authorization=f"Bearer {eve}")[0] == 401


def test_what_is_open_ends_with_the_session(server: Server) -> None:
    client_of(server).add_token("ada", "admin")
    store = sqlite3.connect(server.folder / ".scriptrules" / "state.db")
    ((hash,),) = store.execute("SELECT hash FROM tokens").fetchall()
    store.close()
    claim = f"ada.{int(time.time()) + 3}"
    session = f"{claim}.{hmac.new(hash.encode(), claim.encode(), hashlib.sha256).hexdigest()}"
    with follow(server, "/api/events", cookie=f"scriptrules_session={session}") as stream:
        read_until(stream, b"")
    assert ask(server, "GET", "/api/tasks", cookie=f"scriptrules_session={session}")[0] == 401


def test_a_browser_gets_a_session_that_no_other_site_can_use(server: Server) -> None:
    token = client_of(server).add_token("ada", "admin")["token"]
    here = f"http://127.0.0.1:{server.port}"
    assert ask(server, "POST", "/api/session", {"token": "wrong"}, origin=here)[0] == 401
    assert ask(server, "POST", "/api/session", {"token": token}, origin="http://evil.example")[0] == 403
    status, session, headers = ask(server, "POST", "/api/session", {"token": token}, origin=here)
    assert (status, session) == (200, {"name": "ada", "role": "admin", "tokens": True})
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert token not in cookie
    server.kill()
    server.start()
    assert ask(server, "GET", "/api/session", cookie=cookie)[1]["name"] == "ada"
    task = {"name": "a"}
    assert ask(server, "POST", "/api/tasks", task, cookie=cookie)[0] == 403
    assert ask(server, "POST", "/api/tasks", task, cookie=cookie, origin="null")[0] == 403
    assert ask(server, "POST", "/api/tasks", task, cookie=cookie, sec_fetch_site="cross-site")[0] == 403
    assert ask(server, "POST", "/api/tasks", task, cookie=cookie, origin=f"http://127.0.0.1:{server.port}")[0] == 202
    assert ask(server, "POST", "/api/tasks", task, cookie=cookie, x_scriptrules="1")[0] == 202
    other = "0" if cookie[-1] != "0" else "1"
    for forged in (cookie[:-1] + other, cookie.replace("ada", "eve"), "scriptrules_session=", "a=b"):
        assert ask(server, "GET", "/api/tasks", cookie=forged)[0] == 401
    client_of(server, token).revoke_token("ada")
    client_of(server).add_token("ada", "admin")
    assert ask(server, "GET", "/api/tasks", cookie=cookie)[0] == 401


def test_beyond_loopback_it_listens_with_a_token_only_which_is_made_in_the_store(server: Server) -> None:
    server.stop()
    refused = cli(server, "serve", "--listen", "0.0.0.0:0")
    assert refused.returncode == 1
    assert "scriptrules token add NAME --role admin" in refused.stderr
    made = cli(server, "token", "add", "ada", "--role", "admin", "--store", "sqlite:///.scriptrules/state.db", "--json")
    assert made.returncode == 0, made.stderr
    token = json.loads(made.stdout)["token"]
    listed = cli(server, "token", "list", "--store", "sqlite:///.scriptrules/state.db", "--json")
    assert [one["name"] for one in json.loads(listed.stdout)["items"]] == ["ada"]
    server.config(f'[server]\nlisten = "0.0.0.0:{server.port}"\nhosts = ["rules.example"]\n')
    server.start(configured=True)
    assert ask(server, "GET", "/api/tasks")[0] == 401
    bearer = f"Bearer {token}"
    assert ask(server, "GET", "/api/tasks", authorization=bearer, host="10.1.2.3:80")[0] == 200
    assert ask(server, "GET", "/api/tasks", authorization=bearer, host="rules.example")[0] == 200
    status, problem, _ = ask(server, "GET", "/api/tasks", authorization=bearer, host="evil.example")
    assert (status, problem["code"]) == (403, "SR822")
    with pytest.raises(Refused, match="beyond loopback"):
        client_of(server, token).revoke_token("ada")
    in_use = cli(server, "token", "add", "bob", "--store", "sqlite:///.scriptrules/state.db")
    assert "Another scriptrules serves" in in_use.stderr


def test_the_command_line_uses_the_token_in_the_environment(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    made = cli(server, "token", "add", "ada", "--role", "admin", SCRIPTRULES_URL=url)
    assert made.returncode == 0
    assert cli(server, "tasks", SCRIPTRULES_URL=url).returncode != 0
    token = made.stdout.strip()
    assert cli(server, "send", "a", SCRIPTRULES_URL=url, SCRIPTRULES_TOKEN=token).returncode == 0
    table = cli(server, "token", "list", SCRIPTRULES_URL=url, SCRIPTRULES_TOKEN=token)
    assert "ada" in table.stdout
    assert token not in table.stdout
    assert cli(server, "token", "revoke", "ada", SCRIPTRULES_URL=url, SCRIPTRULES_TOKEN=token).returncode == 0
    assert cli(server, "tasks", SCRIPTRULES_URL=url).returncode == 0


def test_rates_are_bounded_for_each_client(server: Server) -> None:
    server.stop()
    server.config("[server]\nrate = 5\n")
    server.start()
    answers = [ask(server, "GET", "/healthz") for _ in range(100)]
    _, problem, headers = next(answer for answer in answers if answer[0] == 429)
    assert headers["retry-after"] == "1"
    assert problem["code"] == "SR825"
    eventually(lambda: ask(server, "GET", "/healthz")[0] == 200, "it may come again")


def test_a_body_that_does_not_come_is_given_up(server: Server) -> None:
    server.stop()
    server.config("[server]\nread_timeout = 0.5\n")
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        slow.sendall(b"POST /api/tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_behind_a_proxy_it_is_found_under_its_path_and_name(server: Server) -> None:
    server.stop()
    server.config('[server]\nroot_path = "/rules"\nhosts = ["tools.example"]\n')
    server.start()
    assert ask(server, "GET", "/rules/api/tasks", host="tools.example")[0] == 200
    assert ask(server, "GET", "/api/tasks", host="tools.example")[0] == 200
    outside = {"host": "tools.example", "origin": "https://tools.example"}
    assert ask(server, "POST", "/rules/api/tasks", {"name": "a"}, **outside)[0] == 202
    assert ask(server, "GET", "/other/api/tasks", host="tools.example")[0] == 404
