"""The corpora and the language table on another supported Python than the one that runs the tests, if there is one.

Its virtualenv is kept in .venv/other-VERSION and made anew where pyproject.toml or the interpreter has changed. Without
another Python the test says so and passes: there is nothing to compare with.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SUPPORTED = ("3.13", "3.14", "3.12", "3.11")  # the first that is present, and not this one, is taken
TESTS = ["tests/escapes", "tests/language"]
NEEDED = ["pytest", "pytest-timeout", "hypothesis"]  # by them, and by what pyproject.toml says of tests


def _candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python3"), reverse=True))


def _identity(python: str) -> str:
    """What an interpreter says it is; nothing for one that does not run, such as a shim without its Python."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2], sys.version, sys.executable)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()) if done.returncode == 0 else ""


def _other() -> tuple[str, str, str] | None:
    """Version, path and identity of another supported Python."""
    for version in SUPPORTED:
        if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
            for python in _candidates(version):
                identity = _identity(python)
                if identity.startswith(version + " "):
                    return version, python, identity
    return None


def _environment() -> dict[str, str]:
    """Ours, without what points to this Python."""
    ours = {"VIRTUAL_ENV", "PYENV_VERSION", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("PYTHON")}


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False, timeout=900
    )


def _installed(version: str, python: str, identity: str) -> Path:
    """The interpreter of a virtualenv with this project in it."""
    folder = ROOT / ".venv" / f"other-{version}"
    folder.parent.mkdir(exist_ok=True)
    inside, stamp = folder / "bin" / "python", folder / "stamp"
    described = (ROOT / "pyproject.toml").read_bytes() + f"{NEEDED} {identity}".encode()
    wanted = hashlib.sha256(described).hexdigest()
    with (folder.parent / f"other-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            made = _run(python, "-m", "venv", "--clear", folder)
            assert made.returncode == 0, f"{python} cannot make a virtualenv: {made.stderr}"
            pip = _run(inside, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-e", ".", *NEEDED)
            hint = "without a network, set PIP_INDEX_URL or PIP_FIND_LINKS to a mirror"
            assert pip.returncode == 0, f"pip could not install into {folder} ({hint}): {pip.stderr}"
            stamp.write_text(wanted)
    return inside


@pytest.mark.timeout(1000)
def test_the_corpora_end_the_same_way_on_another_python(capsys: pytest.CaptureFixture[str]) -> None:
    other = _other()
    if other is None:
        said = f"no other Python than {sys.version_info[0]}.{sys.version_info[1]} here (looked for {SUPPORTED})"
        passed = True
    else:
        itself = f"--ignore={Path(__file__).relative_to(ROOT)}"
        done = _run(_installed(*other), "-m", "pytest", "-q", *TESTS, itself)
        said = f"Python {other[0]}: {(done.stdout.strip().splitlines() or [done.stderr])[-1]}"
        passed = done.returncode == 0
    with capsys.disabled():
        sys.stdout.write(f"\n{said}\n")
    assert passed, f"{said}\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
