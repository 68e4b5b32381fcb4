"""Disks that fill up at any byte, in the folder of the run, of its caches, of compiled programs and of a sweep."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

from sgdr_jax.core.errors import InputError

from . import children
from .campaign import Outcome, Try

FOLDERS = ("run", "caches", "compiled programs", "sweep")
PAGE = 4096
OUTPUT = Path("output")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign. Raises InputError where this user cannot mount a disk of its own."""
    with children.prepared(folder):
        yield _opened(folder)


def _opened(folder: Path) -> Try:
    """Return the function that tries a case, in the folder of the campaign."""
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)

    def mount(pages: int, option: str = "") -> None:
        words = ["mount", "-t", "tmpfs", "-o", f"{option}size={pages * PAGE}", "none", str(disk)]
        if subprocess.run(words, capture_output=True).returncode:
            raise InputError("disks cannot be mounted by this user; run the campaign as root")

    def attempt(seed: int) -> Outcome:
        random, part = Random(f"full {seed}"), FOLDERS[seed % len(FOLDERS)]
        name = random.choice(children.NAMES)
        children.reference(name)
        if part == "sweep":
            _sweep_reference()
        for path in ("run", "cache", "swept"):
            shutil.rmtree(path, ignore_errors=True)
        mount(random.randrange(1, {"run": 160, "caches": 40, "compiled programs": 300, "sweep": 250}[part]))
        try:
            return _filled(part, name, disk, lambda: mount(1 << 16, "remount,"))
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)

    return attempt


def _filled(part: str, name: str, disk: Path, enlarge) -> Outcome:
    environment, run = {"XDG_CACHE_HOME": "cache"}, "run"
    if part == "caches":
        environment["XDG_CACHE_HOME"] = str(disk)
    elif part == "compiled programs":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(disk / "compiled")
    else:
        run = str(disk / "run")
    if part == "sweep":
        first = again = children.command("sweep", "sweep.py", "--dir", run, "--keep", "final")
    else:
        first, again = children.train(name, run), children.train(name, run, "--resume")
    ended = children.run(first, OUTPUT, children.HANGS, environment)
    allowed = (0,) if part in ("caches", "compiled programs") else (0, 1, 2) if part == "sweep" else (0, 2)
    if fault := children.faults(ended, allowed):
        return Outcome(part, fault, ended.output[-300:])
    lines = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    if ended.code == 2 and len(lines) != 1:
        return Outcome(part, "traceback", ended.output[-300:])
    enlarge()
    if ended.code:
        ended = children.run(again, OUTPUT, children.HANGS, environment)
        if fault := children.faults(ended, (0,)):
            return Outcome(part, fault, ended.output[-300:])
    changed = _swept_difference(run) if part == "sweep" else children.difference(run, name)
    if changed:
        return Outcome(part, "silent", changed)
    return Outcome(part, "refused" if lines else "same", lines[0] if lines else "")


def _sweep_reference() -> None:
    if not Path("reference-sweep").exists():
        words = ("sweep", "sweep.py", "--dir", "reference-sweep", "--keep", "final")
        assert children.run(children.command(*words), OUTPUT, children.HANGS, {"XDG_CACHE_HOME": "cache"}).code == 0, OUTPUT.read_text()


def _swept_difference(folder: str) -> str:
    """Return the runs of a sweep whose results differ from those of an undisturbed one."""
    changed = []
    for run in sorted(Path("reference-sweep/runs").iterdir()):
        texts = []
        for place in (run, Path(folder) / "runs" / run.name):
            ended = children.run(children.saved_results(str(place), "results.json"), OUTPUT)
            texts.append(Path("results.json").read_text() if ended.code == 0 else f"{place} {ended.output[-200:]}")
        changed += [run.name] if texts[0] != texts[1] else []
    return ", ".join(changed)
