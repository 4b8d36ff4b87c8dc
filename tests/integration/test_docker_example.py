"""The example of the documentation, from a task to a real container and back, and across a kill of the server."""

from __future__ import annotations

import time

import pytest

from engine import IMAGE, PrivateEngine
from serving import eventually, project

pytestmark = pytest.mark.docker

RULE = '''
"""Rebuild the mid-month report whenever an upload finishes."""

on = "upload.finished"
when = lambda task: task["size"] > 0

def main(size, **kwargs):
    run("locust", "mid-mf", "{image}", args=["sh", "-c", {script!r}])
    result = wait("mid-mf")
    if result.output["rows"]:
        emit("report.ready", url=result.output["url"])
    else:
        emit("report.empty")
'''

SCRIPT = (
    "sleep {seconds}; echo working; rows=$(sed 's/[^0-9]//g' $SCRIPTRULES_INPUT); "
    'echo "{{\\"rows\\": $rows, \\"url\\": \\"r/1\\"}}"'
)


def config(engine: PrivateEngine) -> str:
    return f'[hosts.locust]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["{IMAGE}"]\npull = "never"\n'


def test_the_example_starts_a_container_and_the_next_task_follows(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(config(engine))
        script = SCRIPT.format(seconds=0)
        server.rule("report", RULE.format(image=IMAGE, script=script))
        server.start()
        task = server.send("upload.finished", size=3)
        assert server.wait_task(task)["state"] == "done"
        (ready,) = server.all("tasks", name="report.ready")
        assert ready["data"] == {"url": "r/1"}
        assert ready["parent"] == server.run_of(task)["id"]
        execution = server.entries(server.run_of(task)["id"])[0]
        assert execution["verdict"] == "once"
        assert execution["result"]["stdout"].startswith("working\n")
        assert server.wait_task(server.send("upload.finished", size=0))["state"] == "unmatched"


def test_a_container_outlives_the_server_and_is_adopted_by_the_next(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(config(engine))
        script = SCRIPT.format(seconds=3)
        server.rule("report", RULE.format(image=IMAGE, script=script))
        server.start()
        task = server.send("upload.finished", size=3)
        run = server.wait_run(task, {"waiting"})
        eventually(lambda: server.entries(run["id"])[0]["state"] == "started", "the container runs")
        server.kill()
        time.sleep(0.5)
        server.start()
        assert server.wait_task(task)["state"] == "done"
        assert len(server.all("tasks", name="report.ready")) == 1
        assert server.entries(run["id"])[0]["attempt"] == 1
        eventually(lambda: _containers(engine) == 0, "the finished container is removed")


SEED = """
def main():
    run("locust", "execution_name", "docker.example/bpmms_uploads_v2")
    wait("")
"""


def test_the_example_that_all_began_with_runs_literally(engine: PrivateEngine) -> None:
    engine.load_image("docker.example/bpmms_uploads_v2:latest", ["echo", "uploaded"])
    with project() as server:
        table = f'[hosts.locust]\nexecutor = "docker"\nurl = "{engine.url}"\n'
        server.config(table + 'images = ["docker.example/*"]\npull = "never"\n')
        server.rule("seed", 'on = "seed"\n' + SEED)
        server.start()
        task = server.send("seed")
        assert server.wait_task(task)["state"] == "done"
        execution, waited = server.entries(server.run_of(task)["id"])
        assert (execution["args"]["name"], execution["verdict"]) == ("execution_name", "once")
        assert execution["result"]["stdout"] == "uploaded\n"
        assert waited["state"] == "done"


TWIN = """
on: seed.yaml
type: Docker
body:
  action: run
  host: locust
  name: execution_name
  image: docker.example/bpmms_uploads_v2
  args: [-m bpmms_uploads.scripts.reports.mid_mf, {type: load, name: [x]}]
then:
  branch: {ok: report.ready, failed: [report.failed, ops.alert]}
"""


@pytest.mark.parametrize(("program", "follows"), [("head", ["ops.alert", "report.failed"]), ("echo", ["report.ready"])])
def test_the_declarative_twin_runs_literally(engine: PrivateEngine, program: str, follows: list[str]) -> None:
    engine.load_image("docker.example/bpmms_uploads_v2:latest", entrypoint=[program])
    with project() as server:
        server.config(config(engine).replace(IMAGE, "docker.example/*"))
        server.rule("twin.yaml", TWIN)
        server.start()
        server.request("PUT", "/api/variables/x", b'{"value": "quarter 3"}')
        task = server.send("seed.yaml")
        assert server.wait_task(task)["state"] == "done"
        entries = server.entries(server.run_of(task)["id"])
        execution = next(entry for entry in entries if entry["name"] == "run")
        arguments = ["-m bpmms_uploads.scripts.reports.mid_mf", "quarter 3"]
        assert (execution["args"]["args"], execution["verdict"]) == (arguments, "once")
        if program == "echo":
            assert execution["result"]["stdout"] == " ".join(arguments) + "\n"
        assert sorted(task["name"] for task in server.all("tasks") if task["parent"]) == follows


def _containers(engine: PrivateEngine) -> int:
    with engine.client() as client:
        return len(client.containers(all=True))
