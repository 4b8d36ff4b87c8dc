"""Engines elsewhere: by TLS, by ssh, two at once, and a registry that wants a password; all of it real, on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dockerparts
from dockerparts import PASSWORD, USER, Certificates
from dockersite import Site, credentials, image_in_registry, next_result, request, with_executor
from engine import IMAGE, PrivateEngine, missing
from scriptrules.errors import ConfigError, HostUnavailable, InvalidRequest
from scriptrules.executors import docker as docker_executor
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext
from serving import eventually, project

pytestmark = pytest.mark.docker

BOTH = f"""
on = "both"
def main():
    run("near", "a", "{IMAGE}", args=["echo", '"near"'])
    run("far", "b", "far:test", args=["echo", '"far"'])
    return [[result.host, result.output] for result in wait()]
"""


def outcome(
    folder: Path, image: str, told: list[str] | None = None, *, script: str = "echo 7", **table: Any
) -> ExecutionResult:
    """What becomes of one container on the host that `table` configures."""

    def report(_: str, sentence: str | None) -> None:
        if told is not None and sentence:
            told.append(sentence)

    async def main() -> ExecutionResult:
        context = ExecutorContext("far", folder.name, folder / "state", folder, report=report)
        executor = docker_executor.make({"images": ["**"], **table}, context)
        try:
            asked = ExecutionRequest("r1-1-1-1", "far", "job", image, ["sh", "-c", script])
            async with asyncio.timeout(60):
                await executor.ensure(asked, may_create=True)
                key, result = await anext(aiter(executor.results()))
                assert [chunk.text async for chunk in executor.logs(key)] == ["7\n"]
            await executor.release(key)
            return result
        finally:
            await executor.close()

    return asyncio.run(main())


# ---- TLS


def test_a_rule_uses_two_engines_at_once(
    engine: PrivateEngine, far_engine: PrivateEngine, certificates: Certificates
) -> None:
    with project() as server:
        files = "".join(f'{name} = "{file}"\n' for name, file in certificates.table().items())
        near = f'[hosts.near]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["**"]\npull = "never"\n'
        far = f'[hosts.far]\nexecutor = "docker"\nurl = "{far_engine.tls_url}"\nimages = ["**"]\npull = "never"\n'
        server.config(near + far + files)
        server.rule("both", BOTH)
        server.start()
        task = server.send("both")
        assert server.wait_task(task)["state"] == "done"
        assert server.run_of(task)["value"] == [["near", "near"], ["far", "far"]]
        assert all(host["reachable"] for host in server.get("/api/hosts")["items"])


def test_an_engine_that_another_authority_vouches_for_is_not_talked_to(
    far_engine: PrivateEngine, tmp_path: Path
) -> None:
    with pytest.raises(HostUnavailable, match="certificate verify failed"):
        outcome(tmp_path, "far:test", url=far_engine.tls_url, **Certificates(tmp_path).table())


def test_certificates_that_are_not_there_are_said(far_engine: PrivateEngine, tmp_path: Path) -> None:
    table = {name: f"{name}.pem" for name in ("tls_ca", "tls_cert", "tls_key")}
    with pytest.raises(HostUnavailable, match="cannot be reached"):
        outcome(tmp_path, "far:test", url=far_engine.tls_url, **table)


def test_an_open_port_of_another_machine_is_no_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without TLS"):
        outcome(tmp_path, "far:test", url="tcp://docker.example:2375")


# ---- ssh


def test_an_engine_is_reached_by_ssh(far_engine: PrivateEngine, tmp_path: Path) -> None:
    with dockerparts.ssh_server() as (address, config):
        url = f"ssh://{address}{far_engine.folder}/s"
        assert outcome(tmp_path, "far:test", url=url, ssh_config=str(config)).output == 7


def test_an_ssh_server_with_another_key_is_not_talked_to(far_engine: PrivateEngine, tmp_path: Path) -> None:
    with dockerparts.ssh_server() as (address, config):
        (config.parent / "known_hosts").write_text("")
        with pytest.raises(HostUnavailable, match="Host key verification failed"):
            outcome(tmp_path, "far:test", url=f"ssh://{address}{far_engine.folder}/s", ssh_config=str(config))


# ---- a private registry


@pytest.fixture(scope="module")
def registry(engine: PrivateEngine) -> Iterator[str]:
    """A registry with an image that the engine does not have; gives the image's name."""
    if reason := missing():
        pytest.skip(reason)
    with image_in_registry(engine) as image:
        yield image


def test_an_image_is_pulled_with_configured_credentials_and_one_sees_how_far_it_is(
    engine: PrivateEngine, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
    for how in ({"password": PASSWORD}, {"password_file": "password"}, {"password_env": "REGISTRY_PASSWORD"}):
        told: list[str] = []
        assert outcome(tmp_path, registry, told, url=engine.url, **credentials(registry, **how)).output == 7
        assert told[0].startswith(f"pulls {registry}")
        with engine.client() as client:
            client.remove_image(registry)


def test_the_password_of_a_registry_can_be_a_secret_of_the_store(engine: PrivateEngine, registry: str) -> None:
    with project() as server:
        where = f'[hosts.near.registries."{registry.partition("/")[0]}"]\nusername = "{USER}"\n'
        table = f'[hosts.near]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["**"]\n'
        server.config(f'{table}{where}password_variable = "registry.password"\n')
        server.rule(
            "pull", f'on = "pull"\ndef main():\n    run("near", "a", "{registry}", args=["true"])\n    wait()\n'
        )
        server.start()
        without = server.wait_task(server.send("pull"))
        assert "There is no secret 'registry.password'" in server.run_of(without["id"])["error"]["message"]
        server.request("PUT", "/api/variables/registry.password", json.dumps({"value": PASSWORD}).encode())
        readable = server.wait_task(server.send("pull"))
        assert "is a variable and no secret" in server.run_of(readable["id"])["error"]["message"]
        server.request("DELETE", "/api/variables/registry.password")
        secret = json.dumps({"value": PASSWORD, "secret": True}).encode()
        server.request("PUT", "/api/variables/registry.password", secret)
        assert server.wait_task(server.send("pull"))["state"] == "done"
        with engine.client() as client:
            client.remove_image(registry, force=True)
        assert PASSWORD not in server.log.read_text()


@pytest.mark.parametrize("how", [None, {"password": "wrong"}, {"password_file": "nowhere"}])
def test_without_the_right_password_it_is_refused_with_where_to_configure_it(
    engine: PrivateEngine, registry: str, tmp_path: Path, how: dict[str, str] | None
) -> None:
    table = credentials(registry, **how) if how else {}
    with pytest.raises(InvalidRequest) as caught:
        outcome(tmp_path, registry, url=engine.url, **table)
    assert "nowhere" in caught.value.message or "[hosts.far.registries]" in caught.value.message
    assert PASSWORD not in caught.value.message


def test_while_an_image_is_pulled_its_entry_says_so_and_it_can_be_cancelled(engine: PrivateEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, project() as server:  # a registry that never answers
        image = f"127.0.0.1:{silent.getsockname()[1]}/slow:1"
        server.config(f'[hosts.near]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["**"]\n')
        server.rule("slow", f'on = "slow"\ndef main():\n    run("near", "a", "{image}")\n    wait()\n')
        server.start()
        task = server.send("slow")
        run = server.wait_run(task, {"waiting"})
        eventually(lambda: server.entries(run["id"])[0]["reason"], "the entry has a reason")
        assert server.entries(run["id"])[0]["reason"] == f"pulls {image}"
        server.request("POST", f"/api/runs/{run['id']}/cancel")
        assert server.wait_task(task)["state"] == "cancelled"
        assert server.entries(run["id"])[0]["result"]["reason"] == "stopped before it was started"


def test_what_an_earlier_supervisor_started_is_stopped_though_its_image_is_being_pulled_again(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/slow:1"
        site.engine.load_image(image)
        asked = request("sleep 60", image=image)
        with_executor(site, lambda executor: executor.ensure(asked, may_create=True), images=["**"], pull="never")

        async def work(executor: Executor) -> ExecutionResult:
            ensuring = asyncio.create_task(executor.ensure(asked, may_create=True))
            await asyncio.sleep(0.3)
            await executor.stop(asked.key)
            await ensuring
            return (await next_result(executor))[1]

        result = with_executor(site, work, images=["**"], pull="always", grace=0.3)
    assert (result.reason, result.verdict) == ("stopped", Verdict.ADOPTED)


def test_credentials_have_one_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of password, password_file, password_env, password_variable"):
        outcome(tmp_path, IMAGE, registries={"r.example": {"username": "a"}})
