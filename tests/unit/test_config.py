"""Configuration: the file, then the environment, then flags; whatever is unknown names the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptrules import config
from scriptrules.config import Config
from scriptrules.errors import ConfigError


def load(folder: Path, text: str | None = None, environ: dict[str, str] | None = None, **flags: object) -> Config:
    if text is not None:
        (folder / config.FILE).write_text(text)
    overrides = {key.replace("__", "."): value for key, value in flags.items()}
    return config.load(folder, overrides, environ or {})


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.base, found.file, found.hosts) == (tmp_path, None, {})
    assert found.rules_dir == tmp_path / "rules"
    assert found.store_path == tmp_path / ".scriptrules/state.db"
    assert found.listen_address == ("127.0.0.1", 8765)
    assert 1 <= found.workers <= 8


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    text = '[server]\nlisten = "127.0.0.1:1"\nbody_max = 1\n[sandbox]\nworkers = 1\n'
    environ = {"SCRIPTRULES_SERVER_LISTEN": "127.0.0.1:2", "SCRIPTRULES_SANDBOX_WORKERS": "2"}
    found = load(tmp_path, text, environ, server__listen="127.0.0.1:3", sandbox__workers=None)
    assert (found.server.listen, found.server.body_max, found.workers) == ("127.0.0.1:3", 1, 2)


def test_the_environment_reaches_every_section_and_the_folders(tmp_path: Path) -> None:
    environ = {
        "SCRIPTRULES_RULES": "r",
        "SCRIPTRULES_PLUGINS": "/p",
        "SCRIPTRULES_STORE_URL": "memory:",
        "SCRIPTRULES_FLOW_HOP_MAX": "7",
        "SCRIPTRULES_SANDBOX_CPU_SECONDS": "0.5",
        "SCRIPTRULES_URL": "http://somewhere",  # the client's, not ours
    }
    found = load(tmp_path, None, environ)
    assert (found.rules_dir, found.plugins_dir) == (tmp_path / "r", Path("/p"))
    assert (found.store_path, found.flow.hop_max, found.sandbox.cpu_seconds) == (None, 7, 0.5)
    assert found.state_dir == tmp_path / ".scriptrules"


def test_paths_are_relative_to_the_file_which_may_be_above(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / config.FILE).write_text('rules = "mine"\n[store]\nurl = "sqlite:///data/x.db"\n')
    found = load(below)
    assert (found.rules_dir, found.store_path) == (tmp_path / "mine", tmp_path / "data/x.db")
    assert (found.file, found.state_dir) == (tmp_path / config.FILE, tmp_path / "data")


def test_an_absolute_store_stays_where_it_is(tmp_path: Path) -> None:
    assert load(tmp_path, '[store]\nurl = "sqlite:////var/x.db"').store_path == Path("/var/x.db")


def test_a_project_file_with_our_table_is_as_good(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.scriptrules]\nrules = "r"\n')
    assert load(tmp_path).rules == "r"
    (tmp_path / config.FILE).write_text("")
    assert load(tmp_path).rules == "rules"


def test_a_project_file_without_our_table_is_passed_over(tmp_path: Path) -> None:
    below = tmp_path / "a"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.ruff]\n")
    (tmp_path / config.FILE).write_text('rules = "r"\n')
    assert load(below).rules == "r"


def test_the_table_of_a_host_is_left_to_its_executor(tmp_path: Path) -> None:
    found = load(tmp_path, '[hosts.local]\nexecutor = "process"\nanything = [1]\n')
    assert found.hosts == {"local": {"executor": "process", "anything": [1]}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[servr]\n", "unknown key 'servr', did you mean 'server'?"),
        ("[server]\nlissen = 1\n", "unknown key 'lissen' in [server], did you mean 'listen'?"),
        ("[sandbox]\nxyz = 1\n", "Known: workers, require"),
        ("base = 'x'\n", "unknown key 'base'"),
        ("server = 5\n", "'server' is a section; write [server]"),
        ("server = 'x'\n", "'server' is a section; write [server]"),
        ("[sandbox]\nworkers = 'many'\n", "sandbox.workers"),
        ("[sandbox]\nworkers = []\n", "sandbox.workers"),
        ("[hosts.local]\nprograms = []\n", '[hosts.local] needs executor = "process"'),
        ("[hosts.local]\nexecutor = 5\n", '[hosts.local] needs executor = "process"'),
        ("hosts = 5\n", "hosts"),
        ("[server\n", "line 1"),
    ],
)
def test_what_cannot_be_used_is_an_error_with_the_file_and_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / config.FILE) in caught.value.message
    assert says in caught.value.message


def test_a_flag_into_what_is_no_section_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a section"):
        load(tmp_path, "server = 5\n", server__listen="127.0.0.1:1")


@pytest.mark.parametrize("url", ["postgres://x", "sqlite://x", "/var/x.db"])
def test_a_store_that_this_version_does_not_know_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"Write sqlite:///path/to/state\.db, or memory:"):
        load(tmp_path, None, store__url=url).store_path  # noqa: B018


@pytest.mark.parametrize(("listen", "expected"), [("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80))])
def test_an_address_is_host_and_port(tmp_path: Path, listen: str, expected: tuple[str, int]) -> None:
    assert load(tmp_path, None, server__listen=listen).listen_address == expected


@pytest.mark.parametrize("listen", ["8765", ":8765", "localhost", "localhost:x", ""])
def test_what_is_no_address_is_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match="is not HOST:PORT"):
        load(tmp_path, None, server__listen=listen).listen_address  # noqa: B018
