"""`scriptrules serve`."""

from __future__ import annotations

import os

import click

from scriptrules.cli.common import installation, overrides, say


@click.command("serve")
@installation
@click.option("--listen", metavar="HOST:PORT", help="Address to listen on (port 0: any).  [default: 127.0.0.1:8765]")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes.  [default: one a processor, at most 8]")
def serve_command(
    rules: str | None, plugins: str | None, store: str | None, listen: str | None, workers: int | None
) -> None:
    """Serve until Ctrl-C: take tasks by HTTP and run the rules.

    What a flag does not say comes from scriptrules.toml. Logs go to standard error.
    """
    from scriptrules import config, log
    from scriptrules.client import DEFAULT_URL
    from scriptrules.rulebook.files import read_all
    from scriptrules.web.server import serve

    settings = config.load(
        None, {**overrides(rules, plugins, store), "server.listen": listen, "sandbox.workers": workers}
    )
    log.configure()

    def listening(address: str) -> None:
        elsewhere = "" if address == DEFAULT_URL else f"SCRIPTRULES_URL={address} "
        folder = os.path.relpath(settings.rules_dir)
        step = f"{elsewhere}scriptrules send NAME field=value --wait"
        if not read_all(settings.rules_dir)[0]:
            step = f"there is no rule in {folder}/ yet; `scriptrules new rule hello` writes one, active within a second"
        say(
            f"scriptrules serves {address} with the rules in {folder}/. "
            f"Open {address}/ in a browser. Next: {step}. Ctrl-C ends it."
        )

    serve(settings, listening)
