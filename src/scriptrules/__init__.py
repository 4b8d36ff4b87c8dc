"""scriptrules: a rule engine for containerised jobs. Rules are Python files one drops in, sandboxed and durable.

What plugins import is here; everything else has its own module (docs/reading-order.md).
"""

from scriptrules.function import function
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.spec import hookimpl

__all__ = ["ExecutionRequest", "ExecutionResult", "Verdict", "function", "hookimpl"]
__version__ = "0.1.0"
