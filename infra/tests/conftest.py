"""What all tests here have in common."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--no-skip", action="store_true", help="a skipped test fails: where everything is to be there")


def pytest_configure(config):
    # Whoever runs some of the tests by hand is told what was not there.
    config.option.reportchars += "s"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    # An expected failure is a skip as well, but one with a traceback in place of a reason.
    if report.skipped and item.config.getoption("no_skip") and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr
        report.outcome, report.longrepr = "failed", f"{item.nodeid}: {reason}"
    return report
