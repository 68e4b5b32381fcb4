"""Size of the chaos tests: `make chaos` sets CHAOS to the number of cases for each kind of file; the suite tries a few."""

import os
from collections import Counter

import pytest

TALLY: dict[str, Counter[str]] = {}


@pytest.fixture
def cases():
    """Return how many cases to try, given how many the suite tries."""
    return lambda few: int(os.environ.get("CHAOS", few))


@pytest.fixture
def tally():
    """Return the counter of outcomes of a kind of damage."""
    return lambda kind: TALLY.setdefault(kind, Counter())


def pytest_terminal_summary(terminalreporter):
    if TALLY and os.environ.get("CHAOS"):
        terminalreporter.section("tried / survived / silent")
        for kind, counts in TALLY.items():
            outcomes = "  ".join(f"{n:,} {name}" for name, n in counts.items())
            terminalreporter.write_line(f"{kind:<40} {counts.total():>7,} tried  {outcomes}")
