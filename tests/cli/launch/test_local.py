"""Processes of this machine: their output, and how they end together."""

import sys
import time

import pytest

from sgdr_jax.cli.launch.local import side_by_side


def test_lines_bear_the_number_of_their_process(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os; print(os.environ['OWN']); print('done')"
    assert side_by_side([[sys.executable, "-c", code]] * 3, [{"OWN": f"mine {i}"} for i in range(3)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert sorted(lines) == sorted([f"[{i}] mine {i}" for i in range(3)] + [f"[{i}] done" for i in range(3)])


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)])
def test_the_first_that_fails_ends_all(end: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    """One that would go on for a minute, and one that does not even listen to SIGTERM."""
    sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.{}); time.sleep(60)"
    words = [sleep.format("SIG_DFL"), f"import os, sys, time; time.sleep(1); {end}", sleep.format("SIG_IGN")]
    began = time.monotonic()
    assert side_by_side([[sys.executable, "-c", each] for each in words], [{}] * 3, grace=0.5) == code
    assert time.monotonic() - began < 20
