"""Workers of a sweep as processes of this machine, each with its own log; the calling process starts and watches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..core.console import NullConsole
from ..core.errors import Preempted
from ..distributed.signals import Children, pass_on, stopped

INTERVAL = 0.5
"""Seconds between two looks at the workers."""


def run_workers(
    environments: Sequence[Mapping[str, str]], arguments: Sequence[str], logs: Path, done: Callable[[], int], total: int, ui: NullConsole
) -> int:
    """Run `sgdr-jax ARGUMENTS` in several processes until all have ended.

    Args:
        environments: additional environment variables of each process.
        arguments: command line of each.
        logs: folder for their output, worker-0.log and so on.
        done: returns the number of runs that have ended so far.
        total: number of runs to execute.
        ui: progress.

    Returns:
        The number of workers that were killed or refused to start; the last line of each is shown.

    Raises:
        Preempted: after a signal to this process, which all workers have obeyed.
    """
    logs.mkdir(exist_ok=True)
    files = [logs / f"worker-{i}.log" for i in range(len(environments))]
    lost = set[int]()
    with pass_on(Children[bytes]()) as children:
        processes = children.processes
        try:
            for file, own in zip(files, environments, strict=True):
                children.add(_start(arguments, file, own))
            ui.say(f"{len(files)} workers; output: {logs}/worker-*.log")
            with ui.bar("runs", total) as tick:
                seen = 0
                while any(process.poll() is None for process in processes):
                    time.sleep(INTERVAL)
                    now = done()
                    tick(now - seen)
                    seen = now
                    for i, process in enumerate(processes):
                        if process.poll() not in (None, 0, 1) and i not in lost and not children.asked:
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
    if children.asked and any(stopped(process.returncode) for process in processes):
        raise Preempted("preempted: all workers have saved what they did; the same command goes on")
    return len(lost)


def _start(arguments: Sequence[str], log: Path, own: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-m", "sgdr_jax", *arguments)
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=os.environ | own)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
