"""Local target: several processes on this machine."""

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

from ...core.console import NullConsole, write_text
from ...core.errors import Preempted
from ...core.validation import require
from ...distributed.signals import Children, pass_on, stopped
from .job import Job, Target

DEVICES = "JAX_LOCAL_DEVICE_IDS"
"""Variable by which jax knows the accelerators of a process; that of this process, where it is set, names those of all."""

GRACE = 20.0
"""Seconds for the other processes to end by themselves after one has failed, and to print why."""


@dataclass(frozen=True)
class Local(Target):
    """Start processes on this machine, each with different devices.

    Their output is prefixed with their number; when one fails, all are ended. SIGTERM and SIGUSR1 are passed on to them.
    """

    processes: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2
    """Number of processes."""
    devices: int = 1
    """Number of accelerators per process, if the machine has any."""

    def __post_init__(self) -> None:
        require(self.processes >= 1, "--processes", self.processes, "use 1 or more")
        require(self.devices >= 1, "--devices", self.devices, "use 1 or more")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Run the processes to their end and return the exit code of the first that failed, or 0."""
        ui.say(f"{self.processes} processes on this machine, run folder {job.run}")
        return self.run(job.command())

    def run(self, words: Sequence[str]) -> int:
        """Run a command in all processes, each with its own devices and number; see `side_by_side`."""
        hosts = ["--hosts.coordinator", f"127.0.0.1:{free_port()}", "--hosts.count", str(self.processes), "--hosts.index"]
        own = [[*words, *hosts, str(i)] if self.processes > 1 else words for i in range(self.processes)]
        given = os.environ.get(DEVICES, "")
        ids = given.split(",") if given else [str(i) for i in range(self.processes * self.devices)]
        each = len(ids) // self.processes
        return side_by_side(own, [{DEVICES: ",".join(ids[i * each : (i + 1) * each])} for i in range(self.processes)])


def free_port() -> int:
    """Return an unused port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def side_by_side(commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], grace: float = GRACE) -> int:
    """Run commands side by side and print their lines, each with the number of its process.

    Args:
        commands: command lines.
        environments: additional environment variables of each.
        grace: seconds for the others to end by themselves after one has failed.

    Returns:
        0, or the exit code of the first that failed (128 + the signal's number if a signal ended it); 75 after a signal to this process
        that the processes obeyed.
    """
    readers, lock, first = list[threading.Thread](), threading.Lock(), 0
    with pass_on(Children[str]()) as children:
        processes = children.processes
        try:
            for i, (words, own) in enumerate(zip(commands, environments, strict=True)):
                process = subprocess.Popen(
                    words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ | own
                )
                children.add(process)
                readers.append(threading.Thread(target=_copy, args=(i, process.stdout, lock), daemon=True))
                readers[-1].start()
            first = _first_failure(processes)
            if first:
                _wait(processes, grace)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()
    for reader in readers:
        reader.join(5)
    return Preempted.code if children.asked and stopped(first if first <= 128 else 128 - first) else first


def _copy(index: int, lines: IO[str] | None, lock: threading.Lock) -> None:
    assert lines is not None
    with lines:
        for line in lines:
            with lock:
                write_text(sys.stdout, f"[{index}] {line}")


def _first_failure(processes: Sequence[subprocess.Popen[str]]) -> int:
    """Wait until all have ended or one has failed; return its exit code, or 0."""
    while True:
        codes = [process.poll() for process in processes]
        if failed := [code for code in codes if code]:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if None not in codes:
            return 0
        time.sleep(0.1)


def _wait(processes: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Wait until all have ended, at most `seconds`; then send SIGTERM."""
    end = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        time.sleep(0.1)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
