"""The page that people look at: one shell and its static parts. Everything it shows it asks of the public API.

Tried and rejected: htmx with parts of pages rendered here. What is live would be rendered twice, here and where events
arrive, and text would be escaped in two ways; a client of the JSON has one of each. Inline scripts and styles: without
them the policy below can forbid all that a hostile task name might smuggle in.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from scriptrules import __version__

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked again each time, answered 304 where it is the same
}
PAGES = (  # route and title, in groups
    (("now", "Now"), ("tasks", "Tasks"), ("runs", "Runs"), ("breakpoints", "Breakpoints")),
    (("graph", "Graph"), ("matrix", "Matrix"), ("rules", "Rules")),
    (("hosts", "Hosts"), ("variables", "Variables"), ("incoming", "Incoming"), ("plugins", "Plugins")),
    (("audit", "Audit"),),
)


def routes() -> list[Route]:
    """The shell at the root, and beside it what it is made of."""
    templates = Environment(loader=PackageLoader("scriptrules.web"), autoescape=True, undefined=StrictUndefined)
    static = Path(str(resources.files("scriptrules.web").joinpath("static")))
    modules = sorted(path.relative_to(static.parent).as_posix() for path in static.rglob("*.js"))
    preload = [module for module in modules if module != "static/theme.js"]  # all at once, not one after the other
    shell = templates.get_template("page.html").render(version=__version__, pages=PAGES, preload=preload)

    async def page(_: Request) -> Response:
        return HTMLResponse(shell, headers=HEADERS)

    files = StaticFiles(directory=static)

    async def part(request: Request) -> Response:
        answer = await files.get_response(request.path_params["path"], request.scope)
        answer.headers.update(HEADERS)
        return answer

    # A mount would find nothing where a proxy has taken `root_path` off.
    return [Route("/", page, methods=["GET"]), Route("/static/{path:path}", part, methods=["GET"])]
