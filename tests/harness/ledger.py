"""Counts every checked redirect of a run, over all tests and workers, and how many were wrong.

A pytest plugin: the fixture `ledger` belongs to a test, the summary to the whole run.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

CHECKED = "redirects checked"
WRONG = "redirects wrong"
FIGURE = "figure"
KEPT = 20


@dataclass(eq=False)
class Ledger:
    """What one test checked."""

    checked: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def check(self, right: bool, what: object) -> None:
        """Count one answer of a redirector; `what` says what was wrong about it."""
        self.checked += 1
        if not right:
            self.wrong += 1
            if len(self.examples) < KEPT:
                self.examples.append(str(what))

    def figure(self, text: str) -> None:
        """Have a measured figure printed at the end of the run."""
        self.figures.append(text)


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """The test's own count; a wrong redirect fails the test."""
    ledger = Ledger()
    yield ledger
    properties = request.node.user_properties
    properties += [(CHECKED, ledger.checked), (WRONG, ledger.wrong)]
    properties += [(FIGURE, text) for text in ledger.figures]
    assert not ledger.wrong, "\n".join(ledger.examples)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    totals = {CHECKED: 0, WRONG: 0}
    figures = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            # Each phase's report repeats the properties so far; the teardown has them all. A
            # passed one is filed under "".
            if getattr(report, "when", None) != "teardown":
                continue
            for name, value in report.user_properties:
                if name in totals:
                    totals[name] += int(value)
                elif name == FIGURE:
                    figures.append(str(value))
    if totals[CHECKED]:
        terminalreporter.section("what was measured")
        for text in figures:
            terminalreporter.write_line(text)
        terminalreporter.write_line(f"{totals[CHECKED]:,} {CHECKED}, {totals[WRONG]} of them wrong")
