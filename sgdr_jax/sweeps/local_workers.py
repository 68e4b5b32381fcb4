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

GPUS = Path("/proc/driver/nvidia/gpus")
"""Folder in which NVIDIA's driver has one for each GPU."""
MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"
"""Variable by which jax knows the share of a GPU's memory that it may take."""
LAST_LINE = "sweep folder: "
"""Beginning of the last line of a worker that has come to its end."""
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
        The number of workers that were killed, have crashed or refused to start; the last line of each is shown.

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
                        if i not in lost and not children.asked and (reason := _lost(process.poll(), files[i])):
                            lost.add(i)
                            ui.say(f"worker {i} has ended with {reason}")
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


def gpu_shares(workers: int) -> list[dict[str, str]]:
    """Return the variables by which each worker has a GPU of its own, or shares one's memory with others where there are fewer GPUs.

    Without them every worker would take all GPUs, and three quarters of the memory of each.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(i) for i in range(len(list(GPUS.glob("*"))))] if given is None else [gpu for gpu in given.split(",") if gpu]
    if not gpus or os.environ.get("JAX_PLATFORMS") == "cpu":
        return [{}] * workers
    sharing = -(-workers // len(gpus))
    memory = {MEMORY: f"{0.9 / sharing:.3f}"} if sharing > 1 and MEMORY not in os.environ else {}
    return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} | memory for i in range(workers)]


def _lost(code: int | None, log: Path) -> str:
    """Return how a worker was lost; "" for one that runs, or has done its work, which ends with 1 where a run has failed."""
    if code in (None, 0):
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code == 1 and lines and lines[-1].startswith(LAST_LINE):
        return ""
    return f"code {code}: {lines[-1] if lines else 'no output'}"


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
