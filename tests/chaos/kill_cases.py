"""SIGKILL at a change of a file, within a save, or at any time; the same command with --resume ends with the bits of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from . import children
from .campaign import Outcome, Try

OUTPUT = Path("output")
ALONE = 150
"""Cases that save and do not train, which take a tenth of the time; the others follow."""
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.link", "os.symlink", "shutil.rmtree")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign."""
    with children.prepared(folder):
        yield _opened(folder)


def _opened(folder: Path) -> Try:
    """Return the function that tries a case, in the folder of the campaign."""

    def attempt(seed: int) -> Outcome:
        random = Random(f"kill {seed}")
        if seed < ALONE:
            return _saves(random)
        if seed % 10 == 7:
            return _two_processes(random)
        if seed % 10 == 3:
            return _sweep(random)
        return _one(random)

    return attempt


def _one(random: Random) -> Outcome:
    """Kill a run once or several times."""
    name, part = random.choice(children.NAMES), "not reached"
    children.reference(name)
    _clear()
    environment = {"XDG_CACHE_HOME": "cache"}
    for _ in range(random.choice((1, 1, 2, 3))):
        how = random.choice(("save", "save", "change", "time"))
        ended = _killed(children.train(name, "run", "--resume"), how, random, environment)
        if ended.code == -signal.SIGKILL:
            part = {"save": "in a save", "change": "at a change of a file", "time": "at any time"}[how]
        elif fault := children.faults(ended):
            return Outcome(part, fault, ended.output[-300:])
    return _resumed(part, children.train(name, "run", "--resume"), environment, lambda: children.difference("run", name))


def _killed(work: Callable[[], None], how: str, random: Random, environment: dict[str, str]) -> children.Ended:
    if how == "time":  # ended by force, from outside
        ended = children.wait(children.start(work, OUTPUT, environment), OUTPUT, random.uniform(0.05, 4))
        return ended._replace(code=-signal.SIGKILL) if ended.code is None else ended
    arm = _at_save(random) if how == "save" else _at_change(random)

    def armed() -> None:
        arm()
        work()

    return children.run(armed, OUTPUT, children.HANGS, environment)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_change(random: Random) -> Callable[[], None]:
    """Return the arming of a kill at the n-th change of a file below the current folder."""
    left = [int(10 ** random.uniform(0, 2.6))]

    def hook(event: str, arguments: Any) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not isinstance(path, (str, os.PathLike)) or "/proc" in str(path) or "/dev" in str(path):
                return
        elif event not in CHANGES:
            return
        left[0] -= 1
        if left[0] == 0:
            _die()

    return lambda: sys.addaudithook(hook)


def _at_save(random: Random) -> Callable[[], None]:
    """Return the arming of a kill some milliseconds after the n-th save begins."""
    left, delay = [random.randrange(1, 9)], random.uniform(0, 0.12)

    def arm() -> None:
        from sgdr_jax.runs import checkpoint

        save = checkpoint._save

        def saving(*arguments: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                threading.Timer(delay, _die).start()
            save(*arguments)

        checkpoint._save = saving

    return arm


def _resumed(part: str, work: Callable[[], None], environment: dict[str, str], difference: Callable[[], str]) -> Outcome:
    ended = children.run(work, OUTPUT, children.HANGS, environment)
    if fault := children.faults(ended, (0,)):
        return Outcome(part, fault, ended.output[-300:])
    if changed := difference():
        return Outcome(part, "silent", changed)
    return Outcome(part, "same")


def _saves(random: Random) -> Outcome:
    """Kill a process that does nothing but save, some milliseconds into a save or at a change of a file.

    The newest checkpoint is then the last one that was complete, or the one after it, with all its bits; and saving goes on.
    """
    shutil.rmtree("saves", ignore_errors=True)
    Path("saves-done").unlink(missing_ok=True)
    part = "in a save, not reached"
    for _ in range(random.choice((1, 1, 2))):
        arm = _at_save(random) if random.random() < 0.6 else _at_change(random)
        ended = children.run(partial(children.in_turn, arm, save_on), OUTPUT)
        if ended.code == -signal.SIGKILL:
            part = "in a save, alone"
        elif fault := children.faults(ended, (0,)):
            return Outcome(part, fault, ended.output[-300:])
    ended = children.run(save_on, OUTPUT)
    return Outcome(part, children.faults(ended, (0,)) or "same", ended.output[-300:] if ended.code else "")


def save_on(place: str = ".") -> None:
    """Check the newest checkpoint, then save six more, each of which holds its number; a file has the number of the last complete one."""
    from sgdr_jax.runs import checkpoint

    folder, done = Path(place, "saves"), Path("saves-done")
    folder.mkdir(exist_ok=True)
    found, first = next(checkpoint.good(folder, "run"), None), 0
    if found:
        first = found.metadata["step"] + 1
        tree = checkpoint.restore(folder, found.name, _holding(0), "run")
        assert all((tree[name] == leaf).all() for name, leaf in _holding(first - 1).items()), "other bits"
    if done.exists():
        assert first > int(done.read_text()), f"checkpoint {done.read_text()} is lost"
    for step in range(first, first + 6):
        checkpoint.save(folder, checkpoint.step_name(0, step), _holding(step), {"step": step, "stage": 0}, "run")
        Path("saves-done.new").write_text(str(step))
        Path("saves-done.new").replace(done)  # killed within a plain write, it would leave an empty file
        checkpoint.prune(folder)


def _holding(step: int) -> dict[str, Any]:
    random = np.random.default_rng(step)  # which does not shrink on the disk
    return {f"a{i}": random.random((40, 50 + i), np.float32) for i in range(6)}


def _two_processes(random: Random) -> Outcome:
    """Kill one process of a run of two, then both; the results are those of an undisturbed run of two processes."""
    kept = Path("reference-two.json")
    if not kept.exists():
        shutil.rmtree("two", ignore_errors=True)
        _clear()
        for ended in children.pair("two"):
            assert ended.code == 0, ended.output
        assert children.run(children.saved_results("two", "new.json"), OUTPUT).code == 0
        Path("new.json").rename(kept)
    _clear()
    arm, victim = (_at_save if random.random() < 0.5 else _at_change)(random), random.randrange(2)
    first = children.pair("run", lambda i: arm if i == victim or victim == 0 else None)
    part = "two processes" if any(ended.code == -signal.SIGKILL for ended in first) else "not reached"
    for ended in children.pair("run"):
        if fault := children.faults(ended, (0,)):
            return Outcome(part, fault, ended.output[-300:])
    children.run(children.saved_results("run", "results.json"), OUTPUT)
    return Outcome(part, "same" if Path("results.json").read_bytes() == kept.read_bytes() else "silent")


def _sweep(random: Random) -> Outcome:
    """Kill a sweep; the same command goes on with it."""
    kept = Path("reference-sweep.json")
    words = ("sweep", "sweep.py", "--dir", "swept", "--keep", "final")
    if not kept.exists():
        _clear()
        assert children.run(children.command(*words), OUTPUT, children.HANGS, {"XDG_CACHE_HOME": "cache"}).code == 0, OUTPUT.read_text()
        kept.write_text(_swept())
    _clear()
    environment = {"XDG_CACHE_HOME": "cache"}
    ended = _killed(children.command(*words), random.choice(("save", "change", "time")), random, environment)
    part = "a sweep" if ended.code == -signal.SIGKILL else "not reached"
    return _resumed(part, children.command(*words), environment, lambda: "" if _swept() == kept.read_text() else "results of the sweep")


def _swept() -> str:
    """Return the results of all runs of the sweep."""
    found = []
    for run in sorted(Path("swept/runs").iterdir()):
        children.run(children.saved_results(str(run), "results.json"), OUTPUT)
        found.append(f"{run.name} {Path('results.json').read_text()}")
    return "\n".join(found)


def _clear() -> None:
    for name in ("run", "cache", "swept"):
        shutil.rmtree(name, ignore_errors=True)
