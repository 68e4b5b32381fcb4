"""Signals: what ends a process at once, what it is given time for, and what children hear."""

import signal
import subprocess
import sys
import time

import pytest

from sgdr_jax.distributed import signals
from sgdr_jax.distributed.signals import stopped

START = """
import signal, sys, time
from sgdr_jax.distributed import preemption, signals

def wait(seconds):
    print("ready", flush=True)
    time.sleep(seconds)

with signals.leave_at_once():
    {}
"""
PHASES = {
    "nothing has begun": ("wait(30)", 75, 0.0),
    "it answers": (
        """
    with preemption.handle_signals() as leave:
        wait(0)
        while not leave():
            time.sleep(0.01)
        sys.exit(75)""",
        75,
        0.0,
    ),
    "it ends by itself": (
        """
    with preemption.handle_signals():
        wait(0)
        while signal.SIG_DFL not in map(signal.getsignal, signals.SIGNALS):  # until the handler has run
            time.sleep(0.01)
time.sleep(1)
sys.exit(3)""",
        3,
        0.5,
    ),
}
"""What runs within `leave_at_once`, the exit code, and the fewest seconds that it takes."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_a_process_as_soon_as_it_has_nothing_to_save(phase, number):
    code, ends, least = PHASES[phase]
    process = subprocess.Popen([sys.executable, "-c", START.format(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ends, errors
    assert least <= time.monotonic() - began < 10
    assert ("with nothing to save" in errors) == phase.startswith("nothing")


def test_an_ignored_signal_stays_ignored():
    text = START.replace("with signals.leave", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwith signals.leave").format("wait(1)")
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_children_hear_what_their_parent_hears():
    # one write for a line: under PYTHONUNBUFFERED a print of "ready" is two, between which the other child may write
    child = (
        "import signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75)); "
        "print('ready\\n', end='', flush=True); time.sleep(60)"
    )
    parent = f"""
    with signals.pass_on(signals.Children()) as children:
        for _ in range(2):
            children.add(__import__("subprocess").Popen([sys.executable, "-c", {child!r}]))
        codes = [child.wait() for child in children.processes]
        sys.exit(75 if children.asked and all(map(signals.stopped, codes)) else 1)"""
    process = subprocess.Popen([sys.executable, "-c", START.format(parent)], stdout=subprocess.PIPE, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75


@pytest.mark.parametrize("before", [True, False])
def test_a_child_that_is_being_started_hears_a_signal_once(before):
    """The signal arrives before, or after, the child is known; its exit code is the number of signals that it has heard."""
    words = "heard = []; signal.signal(signal.SIGUSR1, lambda *_: heard.append(1)); print('ready', flush=True); time.sleep(1)"
    with signals.pass_on(signals.Children[str]()) as children:
        child = subprocess.Popen(
            [sys.executable, "-c", f"import signal, sys, time; {words}; sys.exit(len(heard))"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"
        if not before:
            children.add(child)
        signal.raise_signal(signal.SIGUSR1)
        if before:
            children.add(child)
        assert child.wait(20) == 1 and children.asked
        child.stdout.close()


def test_which_codes_are_obedience():
    assert [stopped(code) for code in (75, -signal.SIGTERM, -signal.SIGUSR1, 0, 1, 2, -signal.SIGKILL)] == [True] * 3 + [False] * 4
