"""Tasks that the run waits for."""

on = "document.made"


def main(pages):
    handle = emit("document.check")
    if wait(handle).value:
        results = wait(*[emit("page.render", page=page) for page in pages])
        emit("document.ready", pages=len(results))


# expects: ["document.check", {"wait(handle).value": ["page.render", "document.ready"]}]
# document.check  emit  certain
# page.render     emit  possible
# document.ready  emit  possible
