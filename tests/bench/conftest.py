"""One report for all of a run, printed again at its end and written to `.bench/results.json`."""

from __future__ import annotations

import pytest

from tests.bench.report import Report

REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the long forms of those benchmarks that have one")


def pytest_configure(config):
    config.stash[REPORT] = Report()


@pytest.fixture
def report(pytestconfig):
    """Where what is measured goes."""
    return pytestconfig.stash[REPORT]


@pytest.fixture
def full(pytestconfig):
    """Whether there is time for the long form."""
    return pytestconfig.getoption("--full")


def pytest_terminal_summary(terminalreporter, config):
    report = config.stash[REPORT]
    if report.tables or report.targets:
        terminalreporter.section("targets")
        for target in report.targets:
            terminalreporter.write_line(str(target), red=not target.met)
        terminalreporter.write_line(f"\nall of it: {report.write()}")
