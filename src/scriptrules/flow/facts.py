"""The analysis of one file: from the text of a rule to its facts. Called in workers only, because it parses rule code.

It is total: whatever Python can parse has facts, nothing is ever raised, and what takes too long is an Unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from scriptrules.flow.atoms import Unknown
from scriptrules.flow.shapes import Facts, RuleFacts
from scriptrules.function import FunctionSpec
from scriptrules.model import Source

EVERYTHING = "**"


def analyse(source: Source, functions: Mapping[str, FunctionSpec]) -> Facts:
    """What the rules of a file can generate.

    Args:
        source: the file, and the libraries that it may import.
        functions: the injected functions by name, those of plugins too.

    Returns:
        The facts; without rules where the text is no Python.
    """
    try:
        ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Facts([])
    return Facts([RuleFacts(source.rule, Unknown("the rule was not analysed", EVERYTHING))])
