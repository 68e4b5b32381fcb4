"""Several processes on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Annotated

import tyro

from ...core.console import NullConsole
from ...core.validation import require
from .job import Job, Target

GRACE = 20.0
"""Seconds for the others to end by themselves when one has failed: each says why, which takes them a moment."""


@dataclass(frozen=True)
class Local(Target):
    """Starts processes on this machine, each with devices of its own. What they print is prefixed with their number, and the first that
    fails ends all."""

    processes: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2
    """Number of processes."""
    devices: int = 1
    """Accelerators of each process, where the machine has any."""

    def __post_init__(self) -> None:
        require(self.processes >= 1, "--processes", self.processes, "use 1 or more")
        require(self.devices >= 1, "--devices", self.devices, "use 1 or more")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Runs the processes to their end; gives the exit code of the first that failed, or 0."""
        address = f"127.0.0.1:{free_port()}"
        hosts = ["--hosts.coordinator", address, "--hosts.count", str(self.processes), "--hosts.index"]
        own = [[*job.command(), *hosts, str(i)] if self.processes > 1 else job.command() for i in range(self.processes)]
        ids = [",".join(str(i * self.devices + k) for k in range(self.devices)) for i in range(self.processes)]
        ui.say(f"{self.processes} processes on this machine, run folder {job.run}")
        return side_by_side(own, [{"JAX_LOCAL_DEVICE_IDS": each} for each in ids])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def side_by_side(commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], grace: float = GRACE) -> int:
    """Runs commands side by side, printing each line that they print behind the number of its process.

    Args:
        commands: their words.
        environments: variables that each gets besides those of this process.
        grace: seconds that the others have to end by themselves once one has failed.

    Returns:
        0, or the exit code of the first that failed (128 + its number when a signal ended it).
    """
    began = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ | own)
        for words, own in zip(commands, environments, strict=True)
    ]
    lock = threading.Lock()
    readers = [threading.Thread(target=_copy, args=(i, each.stdout, lock), daemon=True) for i, each in enumerate(began)]
    for reader in readers:
        reader.start()
    try:
        first = _first_failure(began)
        if first:
            _wait(began, grace)
    finally:
        for each in began:
            each.kill()
        for each in began:
            each.wait()
    for reader in readers:
        reader.join(5)
    return first


def _copy(index: int, lines: IO[str] | None, lock: threading.Lock) -> None:
    assert lines is not None
    with lines:
        for line in lines:
            with lock:
                sys.stdout.write(f"[{index}] {line}")
                sys.stdout.flush()


def _first_failure(began: Sequence[subprocess.Popen[str]]) -> int:
    """Waits until all have ended, or one has failed; gives that one's exit code, else 0."""
    while True:
        codes = [each.poll() for each in began]
        if failed := [code for code in codes if code]:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if None not in codes:
            return 0
        time.sleep(0.1)


def _wait(began: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Waits until all have ended, but no longer than so many seconds; then tells them to."""
    end = time.monotonic() + seconds
    while any(each.poll() is None for each in began) and time.monotonic() < end:
        time.sleep(0.1)
    for each in began:
        if each.poll() is None:
            each.send_signal(signal.SIGTERM)
    time.sleep(0.2)
