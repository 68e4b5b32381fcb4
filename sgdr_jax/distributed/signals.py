"""Signals by which clusters ask for an end: what a command does before it has begun, and how processes that start others pass them on.

None of this needs jax; `preemption` has what a training process does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ..core.console import write_text
from ..core.errors import Preempted

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
                write_text(sys.stderr, "stopped at once, with nothing to save; the same command goes on\n")
                os._exit(Preempted.code)
        os.close(reading)

    before, descriptor = {s: signal.signal(s, left_to_thread) for s in signals}, signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
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


class Children[T: (bytes, str)]:
    """Child processes that hear every signal of this process, also one that arrives while they are being started.

    Attributes:
        processes: the children, in the order in which they were added.
        asked: whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[T]] = []
        self._last, self._hearing = 0, set[int]()

    @property
    def asked(self) -> bool:
        """Whether a signal has arrived."""
        return self._last != 0

    def add(self, process: subprocess.Popen[T]) -> None:
        """Add a child that has just been started."""
        self.processes.append(process)
        if self._last and process.pid not in self._hearing:  # the signal came before the line above
            self._send(process, self._last)

    def hear(self, number: int, frame: object) -> None:
        """Pass a signal on to all; a handler of signals."""
        self._last = number
        for process in self.processes:
            self._hearing.add(process.pid)
            self._send(process, number)

    def _send(self, process: subprocess.Popen[T], number: int) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(number)


@contextmanager
def pass_on[T: (bytes, str)](children: Children[T]) -> Iterator[Children[T]]:
    """Pass signals on to child processes while the block runs; yields them."""
    before = {s: signal.signal(s, children.hear) for s in handled()}
    descriptor = signal.set_wakeup_fd(-1) if before else None  # the children are what is left to end
    try:
        yield children
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
