"""The hook specifications are documented: each says when and by whom it is called, and what each parameter is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from scriptrules.plugins import spec

HOOKS = {name: hook for name, hook in vars(spec).items() if name.startswith("scriptrules_")}


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_says_who_calls_it_and_documents_every_parameter(name: str) -> None:
    doc = inspect.getdoc(HOOKS[name]) or ""
    signature = inspect.signature(HOOKS[name])
    assert re.search(r"\bCalled\b.*\bby\b", doc, re.DOTALL), "when is it called, and by whom?"
    listed = re.findall(r"^ {4}(\w+): ", doc.partition("Args:")[2].partition("Returns:")[0], re.MULTILINE)
    assert listed == list(signature.parameters)
    if signature.return_annotation != "None":
        assert "Returns:" in doc
        assert "None means" in doc


def test_the_module_holds_specifications_and_no_logic() -> None:
    tree = ast.parse(Path(spec.__file__).read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            assert node.name in HOOKS
            assert [ast.unparse(one) for one in node.decorator_list] == ["hookspec"]
            assert all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in node.body)
        else:
            assert isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign, ast.If, ast.Expr))
