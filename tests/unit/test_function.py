"""A function for rules is declared once, and the declaration is enough for a worker to build its stub."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from scriptrules.errors import PluginError
from scriptrules.function import Function, FunctionSpec, Parameter, function
from scriptrules.sandbox.intrinsics import INTRINSICS


@function(blocks=False, retries=3, timeout=5.0)
async def http_get(url: str, /, *paths: str, timeout: float = 10.0, key: str, **headers: Any) -> dict[str, Any]:
    """GET a URL."""
    return {"url": url, "paths": paths, "key": key, "timeout": timeout, "headers": headers}


def test_a_declaration_is_data() -> None:
    assert http_get.spec == FunctionSpec(
        name="http_get",
        parameters=[
            Parameter("url", "positional", True, "", "str"),
            Parameter("paths", "args", False, "", "str"),
            Parameter("timeout", "keyword", False, "10.0", "float"),
            Parameter("headers", "kwargs", False, "", "Any"),
        ],
        blocks=False,
        entry=True,
        doc="GET a URL.",
        returns="dict[str, Any]",
    )
    assert (http_get.retries, http_get.timeout, http_get.__doc__) == (3, 5.0, "GET a URL.")


def test_it_can_be_called_as_the_function_that_it_is() -> None:
    result = asyncio.run(http_get("u", "a", key="k", accept="x"))
    assert result == {"url": "u", "paths": ("a",), "key": "k", "timeout": 10.0, "headers": {"accept": "x"}}


def test_the_parameter_key_belongs_to_the_engine() -> None:
    assert "key" not in http_get.spec.signature


def test_it_is_declared_with_or_without_arguments() -> None:
    @function
    async def plain() -> None: ...

    assert isinstance(plain, Function)
    assert (plain.spec.blocks, plain.retries, plain.timeout, plain.spec.signature) == (True, 0, 60.0, "() -> None")


@pytest.mark.parametrize("name", [*INTRINSICS, "http_get"])
def test_a_signature_is_written_as_python_reads_it(name: str) -> None:
    declared = INTRINSICS.get(name, http_get)
    names: dict[str, Any] = {}
    annotated = dict.fromkeys(
        ["Sequence", "Mapping", "Any", "ExecutionHandle", "TaskHandle", "Result", "datetime"], Any
    )
    exec(f"from __future__ import annotations\ndef f{declared.spec.signature}: ...", annotated, names)
    found = inspect.signature(names["f"]).parameters
    expected = {
        name: parameter
        for name, parameter in inspect.signature(declared.call).parameters.items()
        if declared.spec.intrinsic or name != "key"
    }
    assert [(one.name, one.kind) for one in found.values()] == [(one.name, one.kind) for one in expected.values()]
    assert [one.default for one in found.values()] == [one.default for one in expected.values()]


def test_what_is_no_coroutine_function_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'plain' is not a coroutine function\. Declare it with `async def`"):

        @function
        def plain() -> None: ...


@pytest.mark.parametrize("default", [object(), {1, 2}, float("nan"), {1: 2}, [b""], len])
def test_a_default_that_no_worker_can_know_is_refused(default: object) -> None:
    async def odd(x: object = default) -> None: ...

    with pytest.raises(PluginError, match="default of 'x' is no JSON value"):
        function(odd)


@pytest.mark.parametrize("default", [None, True, 0, -1.5, "x", [1, [2]], {"a": (1, None)}])
def test_any_json_value_may_be_a_default(default: object) -> None:
    async def even(x: object = default, key: object = object()) -> None: ...

    assert function(even).spec.parameters[0].default == repr(default)


def test_every_function_that_rules_have_is_documented() -> None:
    assert all(one.spec.doc for one in INTRINSICS.values())
