"""Several workers of one sweep as processes of this machine, each with a log of its own; this process starts them and looks on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.console import NullConsole

LOOK = 0.5
"""Seconds between looks at how far they have come."""


def without(words: Sequence[str], options: Sequence[str], flags: Sequence[str] = ()) -> list[str]:
    """A command line without some of its options and their values, and without some of its flags.

    >>> without(["--seed", "1", "--workers", "2", "--dir=a", "--retry"], ["--workers", "--dir"], ["--retry"])
    ['--seed', '1']
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in options:
            next(rest, None)
        elif word.partition("=")[0] not in (*options, *flags):
            kept.append(word)
    return kept


def run(count: int, words: Sequence[str], logs: Path, done: Callable[[], int], total: int, ui: NullConsole) -> int:
    """Runs `sgdr-jax WORDS` in so many processes until all have ended.

    Args:
        words: of each worker's command line.
        logs: folder for what they print, worker-0.log and so on.
        done: how many runs have ended by now; total: how many there are to do.

    Returns:
        How many workers did not come to their end: killed, or refused. Their last line is shown.
    """
    logs.mkdir(exist_ok=True)
    files = [logs / f"worker-{i}.log" for i in range(count)]
    processes, lost = [_start(words, file) for file in files], set()
    ui.say(f"{count} workers; what they print: {logs}/worker-*.log")
    try:
        with ui.bar("runs", total) as tick:
            seen = 0
            while any(process.poll() is None for process in processes):
                time.sleep(LOOK)
                now = done()
                tick(now - seen)
                seen = now
                for i, process in enumerate(processes):
                    if process.poll() not in (None, 0, 1) and i not in lost:
                        lost.add(i)
                        lines = files[i].read_text(encoding="utf-8", errors="replace").strip().splitlines()
                        ui.say(f"worker {i} has ended with {process.returncode}: {lines[-1] if lines else 'it said nothing'}")
            tick(done() - seen)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # it gives back what it has taken
        for process in processes:
            _wait(process)
    return len(lost)


def _start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen((sys.executable, "-m", "sgdr_jax", *words), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
