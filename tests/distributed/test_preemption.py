"""Signals are answered in time: by the run where it notices them, otherwise by a thread."""

import signal
import subprocess
import sys
import time

import pytest

CODE = """
import hashlib, time
from sgdr_jax.distributed.preemption import handle_signals

with handle_signals(notice=0.5) as leave:
    print("ready", flush=True)
    {work}
print("ended", flush=True)
"""
COMPILING = "hashlib.pbkdf2_hmac('sha256', b'', b'', 200_000_000)  # minutes without a Python instruction, and without the lock"


def ended(work: str, number: int) -> tuple[int, str, float]:
    """Exit code, output, and seconds from the signal to the end, of a process that does some work."""
    words = [sys.executable, "-c", CODE.format(work=work)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output, time.monotonic() - began
    finally:
        process.kill()


def test_a_signal_that_no_python_code_can_notice_ends_the_process() -> None:
    code, output, seconds = ended(COMPILING, signal.SIGTERM)
    assert code == 75 and seconds < 20
    assert output == "stopped 0.5 s after the signal, within work that cannot be interrupted; the same command with --resume goes on\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_is_noticed_leaves_time_to_save(number: int) -> None:
    work = "time.sleep(0.1) or [time.sleep(0.05) for _ in iter(leave, True)]; time.sleep(1)"
    assert ended(work, number)[:2] == (0, "ended\n")


def test_the_longer_notice_of_another_signal_is_waited_for() -> None:
    assert ended("[time.sleep(0.02) for _ in range(75)]; assert leave()", signal.SIGUSR1)[:2] == (0, "ended\n")
