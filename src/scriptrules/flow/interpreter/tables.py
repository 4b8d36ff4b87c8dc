"""The language as one: what each module knows of it, put together."""

from __future__ import annotations

from scriptrules.flow.interpreter.expressions import EXPRESSIONS
from scriptrules.flow.interpreter.functions import CALLS
from scriptrules.flow.interpreter.handling import HANDLING
from scriptrules.flow.interpreter.injected import INJECTED
from scriptrules.flow.interpreter.iterating import ITERATING
from scriptrules.flow.interpreter.loops import LOOPS
from scriptrules.flow.interpreter.machine import Language
from scriptrules.flow.interpreter.matching import MATCHING
from scriptrules.flow.interpreter.natives import NATIVES
from scriptrules.flow.interpreter.statements import STATEMENTS

LANGUAGE = Language(
    expressions=EXPRESSIONS,
    statements={**STATEMENTS, **LOOPS, **MATCHING, **HANDLING},
    calls=CALLS,
    natives={**NATIVES, **ITERATING, **INJECTED},
)
