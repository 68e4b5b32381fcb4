"""Workers of a sweep as processes of this machine, each with its own log; the calling process starts and watches them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.console import NullConsole

INTERVAL = 0.5
"""Seconds between two looks at the workers."""


def run_workers(count: int, arguments: Sequence[str], logs: Path, done: Callable[[], int], total: int, ui: NullConsole) -> int:
    """Run `sgdr-jax ARGUMENTS` in several processes until all have ended.

    Args:
        count: number of processes.
        arguments: command line of each.
        logs: folder for their output, worker-0.log and so on.
        done: returns the number of runs that have ended so far.
        total: number of runs to execute.
        ui: progress.

    Returns:
        The number of workers that were killed or refused to start; the last line of each is shown.
    """
    logs.mkdir(exist_ok=True)
    files = [logs / f"worker-{i}.log" for i in range(count)]
    processes, lost = [_start(arguments, file) for file in files], set[int]()
    ui.say(f"{count} workers; output: {logs}/worker-*.log")
    try:
        with ui.bar("runs", total) as tick:
            seen = 0
            while any(process.poll() is None for process in processes):
                time.sleep(INTERVAL)
                now = done()
                tick(now - seen)
                seen = now
                for i, process in enumerate(processes):
                    if process.poll() not in (None, 0, 1) and i not in lost:
                        lost.add(i)
                        lines = files[i].read_text(encoding="utf-8", errors="replace").strip().splitlines()
                        ui.say(f"worker {i} has ended with code {process.returncode}: {lines[-1] if lines else 'no output'}")
            tick(done() - seen)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # The worker releases its runs.
        for process in processes:
            _wait(process)
    return len(lost)


def _start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-m", "sgdr_jax", *arguments)
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
