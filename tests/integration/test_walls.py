"""Where a wall is missing, `doctor` says which, and ``sandbox.require = "full"`` refuses to start."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="these walls are Linux's"
)

SANDBOX_TESTS = Path(__file__).parents[1] / "unit" / "sandbox"
WITHOUT = (  # the kernel refuses what a wall is made of, then the command line is what it is for everybody
    "import sys; from plain_supervisor import do_without; do_without([sys.argv.pop(1)]); "
    "from scriptrules.__main__ import main; main()"
)
WALLS = ["namespaces", "seccomp", "landlock", "mdwe", "rlimits"]


def scriptrules(folder: Path, without: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SCRIPTRULES_")}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, without, *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(SANDBOX_TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def project(folder: Path, require: str) -> Path:
    (folder / "rules").mkdir()
    (folder / "scriptrules.toml").write_text(f'[sandbox]\nrequire = "{require}"\nworkers = 1\n')
    return folder


@pytest.mark.parametrize("wall", WALLS)
def test_a_server_that_requires_every_wall_refuses_to_start_without_one_and_names_it(tmp_path: Path, wall: str) -> None:
    refused = scriptrules(project(tmp_path, "full"), wall, "serve", "--listen", "127.0.0.1:0")
    assert refused.returncode not in (0, None)
    assert 'sandbox.require is "full", and this platform lacks: ' in refused.stderr
    assert wall in refused.stderr.partition("lacks: ")[2]
    assert 'require = "default"' in refused.stderr


@pytest.mark.parametrize("wall", WALLS)
def test_doctor_reports_each_wall_that_is_missing_and_finds_it_broken_where_all_are_required(
    tmp_path: Path, wall: str
) -> None:
    folder = project(tmp_path, "full")
    told = scriptrules(folder, wall, "doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(told.stdout)["items"] if finding["area"] == "sandbox"}
    assert found[wall]["state"] == "broken", found
    assert found[wall]["detail"].startswith("off")
    assert told.returncode == 1
    (folder / "scriptrules.toml").write_text("")
    told = scriptrules(folder, wall, "doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(told.stdout)["items"] if finding["area"] == "sandbox"}
    assert found[wall]["state"] == "warning", found
