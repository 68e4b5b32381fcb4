"""SIGTERM in every phase: answered within ten seconds with exit code 75, and with --resume the run ends as an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from . import children
from .campaign import Outcome, Try

LIMIT = 10.0
OUTPUT, SENT = Path("output"), Path("sent")

BARS = {
    "decoding": ("cached", "decoding"),
    "activations": ("cached", "activations of train"),
    "activations of held-out images": ("cached", "activations of valid"),
    "head on cached activations": ("cached", "cached"),
    "updates of all groups": ("found", "all"),
    "statistics": ("found", "batch statistics"),
    "finder": ("found", "find lr"),
    "evaluation": ("found", "evaluating valid"),
    "test-time augmentation": ("found", "evaluating test"),
}
"""Phase to an experiment and the title of the progress bar at one of whose steps the signal comes."""

CALLS = {
    "solving": ("solved", "sgdr_jax.train.solve_head", "minimise"),
    "validation in a stage": ("refit", "sgdr_jax.train.stage", "logit_metrics"),
    "saving": ("cached", "sgdr_jax.runs.checkpoint", "_save"),
    "compiling": ("found", "jax._src.compiler", "compile_or_get_cached"),
    "refit": ("refit", "sgdr_jax.runs.refit", "settled"),
    "pictures": ("solved", "sgdr_jax.report.run_plots", "plot_run"),
}
"""Phase to an experiment and the function within one of whose calls the signal comes."""

PHASES = (*BARS, *CALLS)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign."""
    with children.prepared(folder):
        yield _opened(folder)


def _opened(folder: Path) -> Try:
    """Return the function that tries a case, in the folder of the campaign."""

    def attempt(seed: int) -> Outcome:
        random, phase = Random(f"stop {seed}"), PHASES[seed % len(PHASES)]
        name = (BARS.get(phase) or CALLS[phase])[0]
        children.reference(name)
        for path in ("run", "cache"):
            shutil.rmtree(path, ignore_errors=True)
        SENT.unlink(missing_ok=True)
        environment = {"XDG_CACHE_HOME": "cache"}
        arm = _at_tick(BARS[phase][1], random) if phase in BARS else _at_call(*CALLS[phase][1:], random)

        def work() -> None:
            arm()
            children.train(name, "run")()

        ended = children.run(work, OUTPUT, children.HANGS, environment)
        if not SENT.exists():
            return Outcome(f"not reached: {phase}", "same" if ended.code == 0 else "traceback", ended.output[-300:])
        seconds = time.monotonic() - float(SENT.read_text())
        if fault := children.faults(ended, (0, 75)):
            return Outcome(phase, fault, ended.output[-300:])
        if seconds > LIMIT:
            return Outcome(phase, "late", f"{seconds:.1f} s")
        again = children.run(children.train(name, "run", "--resume"), OUTPUT, children.HANGS, environment)
        if fault := children.faults(again, (0,)):
            return Outcome(phase, fault, again.output[-300:])
        changed = children.difference("run", name) or ("" if list(Path("run").glob("*.png")) else "no pictures")
        return Outcome(phase, "silent" if changed else "resumed", changed or f"answered after {seconds:.1f} s, exit code {ended.code}")

    return attempt


def _send() -> None:
    SENT.write_text(str(time.monotonic()))
    os.kill(os.getpid(), signal.SIGTERM)


def _at_tick(title: str, random: Random) -> Callable[[], None]:
    share, past = random.random(), [0.0]

    def arm() -> None:
        from sgdr_jax.core.console import Console

        bar = Console.bar

        @contextmanager
        def signalling(self: Console, name: str, total: int) -> Iterator[Any]:
            with bar(self, name, total) as tick:

                def ticked(done: int, note: str = "") -> None:
                    tick(done, note)
                    before = past[0]
                    past[0] += done / total if name.startswith(title) else 0
                    if before <= share < past[0]:
                        _send()

                yield ticked

        Console.bar = signalling

    return arm


def _at_call(module: str, name: str, random: Random) -> Callable[[], None]:
    left, delay = [random.choice((1, 1, 2, 3))], random.choice((0, 0.01, 0.05, 0.2))
    left[0] = 1 if name in ("plot_run", "settled") else left[0]

    def arm() -> None:
        owner = import_module(module)
        function = getattr(owner, name)

        def signalling(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                threading.Timer(delay, _send).start()
            return function(*arguments, **named)

        setattr(owner, name, signalling)

    return arm
