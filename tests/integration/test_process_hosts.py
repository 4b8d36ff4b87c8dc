"""Hosts for programs of this machine, as people configure and look at them."""

from __future__ import annotations

from serving import eventually, project

TABLE = '[hosts.local]\nexecutor = "process"\nprograms = ["sh"]\nmax_running = 2\n'
MANY = """
on = "many"
def main(count, script, **rest):
    for n in range(count):
        run("local", f"job-{n}", "sh", args=["-c", script])
    wait()
"""


def test_programs_wait_for_slots_in_the_store_and_are_shown_over_a_kill() -> None:
    with project() as server:
        server.config(TABLE)
        server.rule("many", MANY)
        server.start()
        gate, lines = server.folder / "gate", server.folder / "lines"
        lines.touch()
        lines.chmod(0o666)
        server.folder.chmod(0o755)
        script = f"echo $SCRIPTRULES_KEY >> {lines}; until [ -e {gate} ]; do sleep 0.1; done"
        task = server.send("many", count=5, script=script)
        run = server.wait_run(task, {"waiting"})
        shown = [(2, 3, 2, 0, [])]  # running, waiting, of at most, free, strays

        def look() -> list[tuple[object, ...]]:
            kinds = ("running", "waiting", "max_running", "free", "strays")
            return [tuple(host[kind] for kind in kinds) for host in server.get("/api/hosts")["items"]]

        eventually(lambda: look() == shown and len(lines.read_text().split()) == 2, "two run, three wait")
        waiting = [
            entry for entry in server.entries(run["id"]) if entry["state"] == "pending" and entry["name"] == "run"
        ]
        assert [entry["reason"] for entry in waiting] == ["waits for a slot on local: 2 of 2 are taken"] * 3
        stray = server.folder / ".scriptrules" / "hosts" / "local" / "r0-1-1"
        stray.mkdir()
        server.kill()
        server.start()
        eventually(lambda: look() == [(2, 3, 2, 0, [str(stray)])], "as before, and what nobody accounts for")
        assert "2 of 2" in server.command("hosts").stdout
        gate.touch()
        assert server.wait_task(task)["state"] == "done"
        keys = lines.read_text().split()
        assert (len(keys), len(set(keys))) == (5, 5)
        verdicts = {entry["verdict"] for entry in server.entries(run["id"]) if entry["name"] == "run"}
        assert verdicts == {"once"}
