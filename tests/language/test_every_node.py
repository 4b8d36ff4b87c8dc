"""The table of the language is complete, and docs/language.md is the table."""

from __future__ import annotations

import _ast
import ast
import importlib.util
import sys
from pathlib import Path

from languagehelp import families

ROOT = Path(__file__).resolve().parent.parent.parent
# A rule is parsed as a Module (a filter's text as an Expression, see test_policy_language.py), without type comments.
NEVER_PARSED = {"Interactive", "Expression", "FunctionType", "TypeIgnore"}
NEWER = {
    (3, 12): {"TypeAlias", "TypeVar", "ParamSpec", "TypeVarTuple"},
    (3, 14): {"TemplateStr", "Interpolation"},
}


def _grammar() -> set[str]:
    """The nodes that this Python's parser makes; `_ast` has none of the deprecated ones."""
    kinds = {kind for kind in vars(_ast).values() if isinstance(kind, type) and issubclass(kind, ast.AST)}
    bases = {base for kind in kinds for base in kind.__mro__[1:]}
    return {kind.__name__ for kind in kinds - bases} - NEVER_PARSED


def test_every_node_of_the_grammar_has_its_rows_in_one_file() -> None:
    listed = [node for _, nodes, _ in families() for node in nodes]
    assert len(listed) == len(set(listed))
    later = {node for since, nodes in NEWER.items() if sys.version_info[:2] < since for node in nodes}
    assert set(listed) - later == _grammar()


def test_every_node_that_a_file_names_is_in_one_of_its_examples() -> None:
    for title, nodes, rows in families():
        texts = [row.text for row in rows if row.since <= sys.version_info[:2] and row.code != "SR101" and nodes]
        shown = {type(node).__name__ for text in texts for node in ast.walk(ast.parse(text))}
        assert not set(nodes) & _grammar() - shown, title


def test_the_rows_of_a_file_have_different_names() -> None:
    for title, _, rows in families():
        assert len({row.name for row in rows}) == len(rows), title


def test_docs_language_md_is_the_table() -> None:
    spec = importlib.util.spec_from_file_location("docs_of_the_language", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.language() == (ROOT / "docs" / "language.md").read_text(encoding="utf-8"), "run scripts/docs.py"
