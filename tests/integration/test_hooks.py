"""Signed webhooks: what is signed becomes a task, once; everything else is refused and leaves nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptrules import config
from scriptrules.errors import BadSignature, ConfigError
from scriptrules.incoming import HookConfig
from scriptrules.web import signatures
from serving import PATIENCE, Server, project

SECRET = "it's a secret"
KEY = b"standard webhooks have a key"
NOW = int(time.time())
CONFIG = f"""
[hooks.github]
scheme = "github"
secret = "{SECRET}"
headers = ["X-GitHub-Event"]

[hooks.pay]
scheme = "stripe"
secret_file = "pay.secret"
task = "payment"

[hooks.std]
scheme = "standard"
secret = "whsec_{base64.b64encode(KEY).decode()}"

[hooks.own]
scheme = "hmac"
secret = "{SECRET}"
signature_header = "X-Own-Signature"
"""


def sign(key: bytes, signed: bytes) -> bytes:
    return hmac.new(key, signed, hashlib.sha256).digest()


def github(body: bytes, id: str = "d1", event: str = "push", secret: str = SECRET) -> dict[str, str]:
    signature = f"sha256={sign(secret.encode(), body).hex()}"
    return {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": id, "X-GitHub-Event": event}


def stripe(body: bytes, at: int, secret: str = SECRET) -> dict[str, str]:
    return {"Stripe-Signature": f"t={at},v1=00ff,v1={sign(secret.encode(), b'%d.' % at + body).hex()},v0=1"}


def standard(body: bytes, at: int, id: str = "msg_1", key: bytes = KEY) -> dict[str, str]:
    signature = base64.b64encode(sign(key, f"{id}.{at}.".encode() + body)).decode()
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": f"v1,AAAA v1,{signature}"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config(CONFIG)
        (server.folder / "pay.secret").write_text(SECRET + "\n")
        server.start()
        yield server


def post(
    server: Server, hook: str, body: bytes, headers: dict[str, str], host: str | None = None
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("POST", f"/hooks/{hook}", body, headers | ({"Host": host} if host else {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def count(server: Server) -> int:
    return sum(server.get("/api/counts")["tasks"].values())


def test_a_signed_delivery_becomes_a_task_named_after_its_event(server: Server) -> None:
    body = b'{"ref": "main", "n": 1}'
    status, found = post(server, "github", body, github(body), host="hooks.example.org")
    assert status == 202
    task = server.task(found["id"])
    assert (task["name"], task["key"]) == ("webhook.github.push", "hooks/github/d1")
    assert task["data"] == {"ref": "main", "n": 1, "headers": {"X-GitHub-Event": "push"}}
    odd = post(server, "github", body, github(body, "d2", "not a name!"))
    assert server.task(odd[1]["id"])["name"] == "webhook.github"


def test_the_schemes_with_a_time_take_event_and_id_from_what_is_signed(server: Server) -> None:
    now = int(time.time())
    body = b'{"id": "evt_7", "type": "invoice.paid"}'
    task = server.task(post(server, "pay", body, stripe(body, now))[1]["id"])
    assert (task["name"], task["key"]) == ("payment.invoice.paid", "hooks/pay/evt_7")
    body = b"[1, 2]"
    task = server.task(post(server, "std", body, standard(body, now))[1]["id"])
    assert (task["name"], task["data"], task["key"]) == ("webhook.std", {"body": [1, 2]}, "hooks/std/msg_1")


def test_a_delivery_that_is_sent_again_is_the_same_task(server: Server) -> None:
    body = b'{"again": true}'
    first = post(server, "github", body, github(body, "again"))
    before = count(server)
    assert post(server, "github", body, github(body, "again")) == first
    other = b'{"again": false}'
    assert post(server, "github", other, github(other, "again"))[0] == 409
    once = post(server, "own", body, {"X-Own-Signature": sign(SECRET.encode(), body).hex()})
    assert post(server, "own", body, {"X-Own-Signature": sign(SECRET.encode(), body).hex()}) == once
    assert count(server) == before + 1


def test_what_is_not_signed_right_is_refused_and_leaves_nothing(server: Server) -> None:
    now, body = int(time.time()), b'{"id": "evt_8", "type": "x"}'
    before = count(server)
    wrong: list[tuple[str, bytes, dict[str, str]]] = [
        ("github", body, {}),
        ("github", body, github(body, secret="guess")),
        ("github", body + b" ", github(body)),
        ("github", body, {"X-Hub-Signature-256": "sha256=\u00fc"}),
        ("github", body, {"X-Hub-Signature-256": "sha256="}),
        ("pay", body, {}),
        ("pay", body, stripe(body, now, "guess")),
        ("pay", body, stripe(body, now - 301)),
        ("pay", body, stripe(body, now + 400)),
        ("pay", body, {"Stripe-Signature": "t=x,v1=1"}),
        ("std", body, standard(body, now, key=b"guess")),
        ("std", body, standard(body, now - 4000)),
        ("std", body, {**standard(body, now), "webhook-id": "msg_2"}),
        ("own", body, {"X-Own-Signature": "00"}),
    ]
    for hook, content, headers in wrong:
        status, problem = post(server, hook, content, headers)
        assert (status, problem["code"]) == (401, "SR815"), (hook, headers)
    assert post(server, "nobody", body, github(body))[0] == 404
    text = b"payload=%7B%7D"
    assert post(server, "github", text, github(text))[0] == 400
    large = b'{"x": "' + b"x" * 300_000 + b'"}'
    status, problem = post(server, "github", large, github(large))
    assert status == 413
    assert "payload_max under [sandbox]" in problem["detail"]
    assert count(server) == before
    assert server.get("/api/counts")["flow"]["hook_refused"] >= len(wrong)


def test_a_signature_is_checked_against_the_body_as_it_came() -> None:
    hook = HookConfig("github", secret=SECRET)
    body = b'{"b":1,  "a":2}'
    headers = {name.lower(): value for name, value in github(body, id="x" * 500).items()}
    delivery = signatures.check(hook, SECRET, headers, body, NOW)
    assert delivery.content == {"b": 1, "a": 2}
    assert len(delivery.id) < 100
    with pytest.raises(BadSignature):
        signatures.check(hook, SECRET, headers, b'{"b":1,"a":2}', NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[hooks.a]\nscheme = "github"',
            "needs one of secret, secret_env, secret_file, secret_variable, and",
        ),
        ('[hooks.a]\nscheme = "github"\nsecret = "x"\nsecret_env = "Y"', "has secret and secret_env"),
        ('[hooks.a]\nscheme = "gitlab"\nsecret = "x"', "scheme"),
        ('[hooks.a]\nsecret = "x"', "scheme"),
        ('[hooks."a b"]\nscheme = "github"\nsecret = "x"', "'webhook.a b' is not the name of a task"),
        ('[hooks.a]\nscheme = "hmac"\nsecret = "x"', "needs signature_header"),
        ('[hooks.a]\nscheme = "github"\nsecret = "x"\nid_header = "X"', 'id_header is for scheme = "hmac"'),
        ('[hooks.a]\nscheme = "github"\nsecert = "x"', "unknown key 'secert' in .hooks.a., did you mean 'secret'"),
    ],
)
def test_a_hook_that_cannot_be_is_an_error_when_the_configuration_is_read(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "scriptrules.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        config.load(tmp_path, None, {})


def test_the_secret_of_a_hook_can_be_a_variable_and_a_new_value_holds_at_once() -> None:
    with project() as server:
        server.config('[hooks.github]\nscheme = "github"\nsecret_variable = "hook.secret"\n')
        server.start()
        body = b'{"n": 1}'
        status, problem = post(server, "github", body, github(body))
        assert (status, problem["code"]) == (503, "SR861")
        assert any(event["event"] == "hook.no_secret" for event in server.events())
        for value in ("the first of two", "the second one"):
            kept = json.dumps({"value": value, "secret": True}).encode()
            server.request("PUT", "/api/variables/hook.secret", kept)
            assert post(server, "github", body, github(body, id=value, secret=value))[0] == 202
        assert post(server, "github", body, github(body, id="late", secret="the first of two"))[0] == 401
        assert count(server) == 2


def test_a_hook_whose_secret_is_missing_keeps_the_server_from_starting() -> None:
    with project() as server:
        server.config('[hooks.a]\nscheme = "github"\nsecret_env = "NO_SUCH_SECRET"\n')
        server.start(wait=False)
        assert server.process is not None
        assert server.process.wait(PATIENCE) != 0
        server.process = None
        assert "the environment variable NO_SUCH_SECRET is not set" in server.log.read_text()
