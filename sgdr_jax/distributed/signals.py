"""Signals by which clusters ask for an end: what a command does before it has begun, and how processes that start others pass them on.

None of this needs jax; `preemption` has what a training process does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ..core.errors import Preempted
from .allocator import set_up_allocator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals of Slurm (`--signal=USR1@90`), Kubernetes, `kill` and spot machines."""


def handled(signals: Sequence[signal.Signals] = SIGNALS) -> list[signal.Signals]:
    """Return the signals that this thread can handle: those not ignored, as `nohup` does with SIGHUP, and none but in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    return [s for s in signals if main and signal.getsignal(s) != signal.SIG_IGN]


@contextmanager
def leave_at_once() -> Iterator[None]:
    """End the process with exit code 75 on a signal while the block runs, unless an inner block handles it: there is nothing to save.

    That holds while the process imports or waits for others too, when Python's own handlers have to wait.
    """
    signals = handled()
    if not signals:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        while number := os.read(reading, 1):
            if number[0] in signals and signal.getsignal(number[0]) is left_to_thread:
                print("stopped at once, with nothing to save; the same command goes on", file=sys.stderr, flush=True)
                os._exit(Preempted.code)
        os.close(reading)

    before, descriptor = {s: signal.signal(s, left_to_thread) for s in signals}, signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    set_up_allocator()  # or the thread would have a heap of its own, which others would share
    threading.Thread(target=watch, name="signals at once", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        os.close(writing)
        for number, handler in before.items():
            signal.signal(number, handler)


def left_to_thread(number: int, frame: object) -> None:
    """Do nothing: the thread of `leave_at_once` ends the process, without waiting for the main thread."""


@contextmanager
def pass_on(processes: Sequence[subprocess.Popen[bytes]] | Sequence[subprocess.Popen[str]]) -> Iterator[Callable[[], bool]]:
    """Pass signals on to child processes while the block runs; yields a function that returns whether any has arrived.

    Args:
        processes: the children, a list that may still grow.
    """
    arrived = False

    def forward(number: int, frame: object) -> None:
        nonlocal arrived
        arrived = True
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    before = {s: signal.signal(s, forward) for s in handled()}
    descriptor = signal.set_wakeup_fd(-1) if before else None  # the children are what is left to end
    try:
        yield lambda: arrived
    finally:
        if descriptor is not None:
            signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped(code: int) -> bool:
    """Return whether a process with this return code has ended since it was asked to, with or without something to save.

    Example:
        >>> [stopped(code) for code in (75, -15, 0, 1)]
        [True, True, False, False]
    """
    return code == Preempted.code or -code in SIGNALS
