"""For all tests: ``SCRIPTRULES_REQUIRE=all`` turns every skip into a failure, so that CI cannot pass by not looking."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

import faults

EVERYTHING_REQUIRED = os.environ.get("SCRIPTRULES_REQUIRE") == "all"


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if EVERYTHING_REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (report.longrepr,)
        report.outcome = "failed"
        report.longrepr = f"{reason}\nSCRIPTRULES_REQUIRE=all: a test that cannot run here is a failure."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests run in several processes: each tells the first one what it has counted."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = dict(faults.CASES)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    faults.CASES.update(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if faults.CASES:
        terminalreporter.write_line(faults.summary())
