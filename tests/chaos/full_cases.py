"""Disks that fill up at any byte, in the folder of the run, of its caches, of compiled programs and of a sweep."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from sgdr_jax.core.errors import InputError

from . import children, kill_cases
from .campaign import Outcome, Try

FOLDERS = ("run", "caches", "compiled programs", "sweep")
PAGE = 4096
ALONE = 120
"""Cases that write files and do not train, which take a tenth of the time; the others follow."""
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
        if seed < ALONE:
            mount(random.randrange(1, 100))
            try:
                return _saved_alone(seed % 3, disk, lambda: mount(1 << 16, "remount,"))
            finally:
                subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)
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


def _saved_alone(kind: int, disk: Path, enlarge: Callable[[], None]) -> Outcome:
    """Write checkpoints, rows and files, or caches alone on a disk that fills up; then go on with more room."""
    part, work = (("checkpoints alone", _checkpoints), ("rows and files alone", _files), ("caches alone", _caches))[kind]
    Path("saves-done").unlink(missing_ok=True)
    ended = children.run(partial(_as_command, work, str(disk)), OUTPUT)
    if fault := children.faults(ended, (0, 2)):
        return Outcome(part, fault, ended.output[-300:])
    lines = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    if ended.code == 2 and (len(lines) != 1 or str(disk) not in lines[0]):
        return Outcome(part, "traceback", ended.output[-300:])
    enlarge()
    again = children.run(partial(_as_command, work, str(disk)), OUTPUT)
    if fault := children.faults(again, (0,)):
        return Outcome(part, fault, again.output[-300:])
    return Outcome(part, "refused" if lines else "same", lines[0] if lines else "")


def _as_command(work: Callable[[str], None], place: str) -> None:
    """Do work as the command line does it: errors of a full disk are one line."""
    try:
        work(place)
    except (InputError, OSError) as error:
        text = error if isinstance(error, InputError) else f"{error.strerror}: {error.filename}"
        print(f"error: {text}")
        raise SystemExit(2) from None


def _checkpoints(place: str) -> None:
    """Save without room to spare, so that the disk fills up within a save."""
    from sgdr_jax.runs import checkpoint

    checkpoint._BESIDE = 0
    kill_cases.save_on(place)


def _files(place: str) -> None:
    """Append rows and replace files; what is there holds whole rows, and the old or the new content."""
    from sgdr_jax.core.files import write_atomically
    from sgdr_jax.runs.rows import RowFile

    path, old = Path(place, "file"), b""
    if path.exists():
        old = path.read_bytes()
        assert len(set(old)) <= 1 and len(old) % 3000 == 0, "a part of a file"
    rows = RowFile(Path(place, "metrics.jsonl"))
    assert [row["step"] for row in rows.rows()] == list(range(len(rows.rows()))), "other rows"
    first = len(rows.rows())
    for i in range(30):
        write_atomically(path, bytes([65 + i % 26]) * (3000 * (1 + i % 5)))
        rows.append({"kind": "bn", "stage": "x" * 1500, "step": first + i, "drift": {}})  # type: ignore[typeddict-item]
    rows.close()


def _caches(place: str) -> None:
    """Cache activations and compiled programs; what does not fit costs time only, and what is found is what was put."""
    import numpy as np

    from sgdr_jax.distributed.compilation_cache import SealedCache
    from sgdr_jax.train.activation_cache import cached

    for i in range(8):
        array = np.full((40, 50), i, np.float32)
        found, _ = cached(f"key{i}", lambda array=array: array, Path(place, "activations"))
        assert np.array_equal(found, array), "other activations"
    programs = SealedCache(str(Path(place)), max_size=1 << 30)
    for i in range(8):
        program, found = bytes([i]) * 5000, None
        with contextlib.suppress(OSError):  # jax warns of it, and compiles
            programs.put(f"program{i}", program)
        with contextlib.suppress(OSError):  # it notes the time of reading
            found = programs.get(f"program{i}")
        assert found in (None, program), "another program"


def _filled(part: str, name: str, disk: Path, enlarge) -> Outcome:
    environment, run = {"XDG_CACHE_HOME": "cache"}, "run"
    if part == "caches":
        environment["XDG_CACHE_HOME"] = str(disk)
    elif part == "compiled programs":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(disk / "compiled")
    else:
        run = str(disk / "run")
    if part == "sweep":
        first, again = (children.command("sweep", "sweep.py", "--dir", run, "--keep", "final", *words) for words in ((), ("--retry",)))
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
