"""Everything that people can do on the page, done by pressing what they would press."""

from __future__ import annotations

import json
from typing import Any

import pytest

from looking import Looker
from serving import Server, eventually

pytestmark = pytest.mark.browser


def held_task(server: Server, **data: Any) -> str:
    id = server.send("stopped.here", **data)
    server.wait_task(id, {"held"})
    return id


def held_run(server: Server, amount: int) -> dict[str, Any]:
    return server.wait_run(server.send("ask", amount=amount), {"held"})


def audit(server: Server, thing: str) -> list[str]:
    return [one["verb"] for one in server.get(f"/api/audit?thing={thing}")["items"]]


def test_resume(look: Looker, server: Server) -> None:
    run = held_run(server, 1)
    look.open(f"runs/{run['id']}")
    look.press("resume")
    look.sees("done")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "done", "done")


def test_step_then_resume(look: Looker, server: Server) -> None:
    run = held_run(server, 2)
    look.open(f"runs/{run['id']}")
    look.press("step")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["reason"] == "step", "held at the next entry")
    look.page.locator(".note").filter(has_text="step").first.wait_for()
    look.press("resume")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "done", "done")


def test_hold_stops_a_run_at_its_next_entry(look: Looker, server: Server) -> None:
    task = server.send("slow.soon", n=2)
    run = server.wait_run(task, {"waiting"})
    look.open(f"runs/{run['id']}")
    look.press("hold")
    look.told("hold:")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "held", "held")
    look.sees("ends by")
    look.press("resume")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "done", "done")
    assert audit(server, run["id"]) == ["resume", "hold"]


def test_edit_by_form(look: Looker, server: Server) -> None:
    id = held_task(server, size=3, label="small", deep={"a": 1})
    look.open(f"tasks/{id}")
    look.press("edit")
    look.confirm("Save", **{"field.size": "30"})
    look.told("edit")
    assert server.task(id)["data"] == {"size": 30, "label": "small", "deep": {"a": 1}}
    look.page.locator("ins").get_by_text("30").wait_for()  # what people did


def test_edit_as_json_and_what_is_no_json_is_said_so(look: Looker, server: Server) -> None:
    id = held_task(server, size=3)
    look.open(f"tasks/{id}")
    look.press("edit")
    look.page.locator("dialog [name=json]").fill('{"size": ')
    look.press("Save", "dialog")
    look.page.locator("dialog .problem").get_by_text("no JSON").wait_for()
    look.confirm("Save", json='{"size": {"w": 1}}')
    look.told("edit")
    assert server.task(id)["data"] == {"size": {"w": 1}}


def test_answer(look: Looker, server: Server) -> None:
    server.request("POST", "/api/breakpoints", b'{"name": "pricing", "on": ["order.new"], "at": "before:call"}')
    run = server.wait_run(server.send("order.new", size=4, kind="plain"), {"held"})
    server.request("DELETE", "/api/breakpoints/pricing")
    look.open(f"runs/{run['id']}")
    look.press("answer")
    look.confirm("Answer", result="11")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "done", "done")
    assert [entry["result"] for entry in server.entries(run["id"]) if entry["name"] == "call"] == [11, 20]


def test_drop_asks_before(look: Looker, server: Server) -> None:
    id = held_task(server, size=1)
    look.open(f"tasks/{id}")
    look.press("drop")
    look.press("Cancel", "dialog")
    assert server.task(id)["state"] == "held"
    look.press("drop")
    look.confirm("drop")
    look.sees("dropped")
    assert server.task(id)["state"] == "dropped"


def test_cancel(look: Looker, server: Server) -> None:
    run = server.wait_run(server.send("slow.cancelled", n=600), {"waiting"})
    look.open(f"runs/{run['id']}")
    look.press("cancel")
    look.confirm("cancel")
    look.sees("cancelled")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "cancelled", "cancelled")


def test_retry_with_the_newest_source(look: Looker, server: Server) -> None:
    server.drop_in(mended='on = "mend"\ndef main():\n    fail("not yet")\n')
    task = server.send("mend")
    run = server.wait_run(task, {"failed"})
    server.rule("mended", 'on = "mend"\ndef main():\n    return 1\n')
    digest = run["digest"]
    path = "/api/rules/source?rule=mended"
    eventually(lambda: server.get(path)["active"] and server.get(path)["digest"] != digest, "the new version is active")
    look.open(f"runs/{run['id']}")
    look.sees("older than the active version")
    look.press("retry")
    look.page.locator("dialog [name=from_start]").check()
    look.confirm("Retry")
    eventually(lambda: server.get(f"/api/runs/{run['id']}")["state"] == "done", "done")


def test_fork_opens_the_new_run(look: Looker, server: Server) -> None:
    order = server.all("tasks", name="order.new", state="done")[0]
    run = server.run_of(order["id"])
    page = look.open(f"runs/{run['id']}")
    page.locator(".rows button").get_by_text("call").first.click()
    look.press("fork")
    look.confirm("Fork", result="99")
    page.wait_for_url(lambda url: "/runs/" in url and run["id"] not in url)
    forked = page.url.rpartition("/")[2]
    eventually(lambda: server.get(f"/api/runs/{forked}")["state"] == "done", "done")
    assert 99 in [entry["result"] for entry in server.entries(forked)]


def test_a_breakpoint_is_tried_out_set_and_removed(look: Looker, server: Server) -> None:
    page = look.open("breakpoints")
    form = page.locator(".panel[aria-label='Set a breakpoint']")
    form.locator("[name=on]").fill("order.new")
    form.locator("[name=when]").fill('1 < task["size"] < 3')
    look.press("Preview")
    form.locator(".preview").get_by_text("it would have caught").wait_for()
    assert "caught 1." in form.locator(".preview").inner_text().replace("\n", "")
    form.locator("[name=name]").fill("big")
    look.press("Set")
    look.told("big is set")
    id = server.send("order.new", size=2, kind="plain")
    server.wait_task(id, {"held"})
    page.locator(".panel[aria-label=Held]").get_by_text("breakpoint:big").first.wait_for()
    page.locator("tr").filter(has_text="order.new").filter(has_text="at task").get_by_role(
        "button", name="remove"
    ).click()
    look.told("big is removed")
    assert server.task(id)["state"] == "held"
    names = [one["name"] for one in server.get("/api/breakpoints")["items"]]
    assert names == ["stopping"]


def test_every_place_that_the_form_offers_is_one(look: Looker, server: Server) -> None:
    page = look.open("breakpoints")
    places = page.locator("form [name=at] option").evaluate_all("options => options.map(option => option.value)")
    assert {"task", "before:run", "after:sleep_until", "before:return"} <= set(places)
    for at in places:
        server.request("POST", "/api/breakpoints/preview", json.dumps({"on": ["x"], "at": at}).encode())


def test_what_cannot_be_a_breakpoint_is_said_so(look: Looker, server: Server) -> None:
    look.quiet = True  # the browser tells of the 400
    page = look.open("breakpoints")
    form = page.locator(".panel[aria-label='Set a breakpoint']")
    form.locator("[name=on]").fill("order.new")
    form.locator("[name=when]").fill("task[")
    look.press("Set")
    page.locator(".toast.bad").first.wait_for()
    assert form.locator("[name=when]").input_value() == "task["


def test_many_are_resumed_after_being_counted(look: Looker, server: Server) -> None:
    for amount in range(5):
        held_run(server, 100 + amount)
    page = look.open("breakpoints")
    page.locator(".filters [name=rule]").fill("asking")
    look.press("Filter")
    page.wait_for_url("**/#/breakpoints?rule=asking")
    count = len(server.all("runs", rule="asking", state="held"))
    page.locator(".bulk").get_by_role("button", name="resume").click()
    dialog = page.locator("dialog")
    dialog.get_by_text(f"selects {count} now").wait_for()
    look.press(f"resume {count}", "dialog")
    look.told(f"resume: {count} of {count}")
    eventually(lambda: not server.all("runs", rule="asking", state="held"), "all went on")
    look.sees("Nothing is held.")


def test_without_a_filter_all_are_meant_and_that_is_said(look: Looker, server: Server) -> None:
    ids = [held_task(server, size=size) for size in (1, 2)]
    page = look.open("breakpoints")
    count = len(server.get("/api/held?limit=1000")["items"])
    page.locator(".bulk").get_by_role("button", name="drop").click()
    page.locator("dialog").get_by_text(f"There is no filter: all {count} are meant").wait_for()
    look.press("Cancel", "dialog")
    assert {server.task(id)["state"] for id in ids} == {"held"}
    page.locator(".bulk").get_by_role("button", name="resume").click()
    look.press(f"resume {count}", "dialog")
    look.told(f"resume: {count} of {count}")
    eventually(lambda: not server.get("/api/held")["items"], "all went on")


def test_many_are_edited_and_dropped(look: Looker, server: Server) -> None:
    ids = [held_task(server, size=size) for size in (1, 2)]
    page = look.open("breakpoints?name=stopped.here")
    page.locator(".bulk").get_by_role("button", name="edit").click()
    look.confirm(page.locator("dialog button.primary").inner_text(), json='{"size": 7}')
    look.told("edit:")
    assert {server.task(id)["data"]["size"] for id in ids} == {7}
    page.locator(".bulk").get_by_role("button", name="drop").click()
    look.confirm(page.locator("dialog button.danger").inner_text())
    eventually(lambda: {server.task(id)["state"] for id in ids} == {"dropped"}, "dropped")


def test_a_test_task_is_explained_and_sent(look: Looker, server: Server) -> None:
    page = look.open("rules/orders%2Fcheck")
    assert page.locator("[name=name]").input_value() == "order.new"
    (newest,) = server.get("/api/tasks?name=order.new&limit=1")["items"]
    assert json.loads(page.locator("[name=data]").input_value()) == newest["data"]
    page.locator("[name=data]").fill('{"size": 0, "kind": "plain"}')
    look.press("Explain")
    page.locator(".why").get_by_text("task['size'] > 0").first.wait_for()
    page.locator("[name=data]").fill('{"size": 3, "kind": "plain"}')
    look.press("Send")
    page.wait_for_url("**/#/tasks/*")
    page.locator(".timeline").get_by_text("orders/paid").first.wait_for()


def test_variables_and_secrets(look: Looker, server: Server) -> None:
    page = look.open("variables")
    look.press("Set a variable")
    look.confirm("Set", name="colour", value="blue")
    look.sees("colour")
    assert server.get("/api/variables/colour")["value"] == "blue"
    look.press("Set a secret")
    look.confirm("Seal", name="key", value="very-secret-indeed")
    look.sees("key")
    assert "very-secret-indeed" not in page.content()
    page.locator("tr").filter(has_text="colour").get_by_role("button", name="set").click()
    long = {"r": list(range(100))}
    look.confirm("Set", value=json.dumps(long))
    look.told("colour is set")
    eventually(lambda: server.get("/api/variables/colour")["value"] == long, "set")
    page.locator("summary").first.click()
    assert json.loads(page.locator("details .json").first.inner_text()) == long
    page.locator("tr").filter(has_text="colour").get_by_role("button", name="remove").click()
    look.confirm("Remove")
    look.told("colour is removed")
    page.locator("tr").filter(has_text="colour").wait_for(state="detached")


def test_draining_and_its_end(look: Looker, server: Server) -> None:
    look.open("hosts")
    look.press("Drain")
    look.confirm("Drain")
    look.sees("Draining.")
    assert server.get("/api/drain")["draining"]
    look.press("End draining")
    look.told("takes tasks")
    eventually(lambda: not server.get("/api/drain")["draining"], "not draining")


def test_a_verb_that_is_not_possible_any_more_is_said_so_and_loses_nothing(look: Looker, server: Server) -> None:
    look.quiet = True  # the browser tells of the 409
    id = held_task(server, size=1)
    page = look.open(f"tasks/{id}")
    look.press("drop")
    server.request("POST", f"/api/tasks/{id}/drop", b"{}")
    look.press("drop", "dialog")
    page.locator(".toast.bad").get_by_text("dropped").first.wait_for()
