"""The package's own names, which are looked up late."""

from __future__ import annotations

import subprocess
import sys

import pytest

import scriptrules


@pytest.mark.parametrize(
    "before", ["", "import scriptrules.function; ", "import scriptrules.model; import scriptrules.function; "]
)
def test_what_plugins_import_is_the_same_whatever_was_imported_before(before: str) -> None:
    code = f"{before}from scriptrules import *; print(function.__name__, hookimpl.project_name, Verdict.ONCE)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "function scriptrules once\n", done.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        scriptrules.nothing  # noqa: B018
