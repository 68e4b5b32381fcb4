"""Damage to the files of a run that was killed, and of a finished one: told, made again or refused, never used in silence."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from . import children, mutations
from .campaign import Outcome, Try

OUTPUT = Path("output")
ENVIRONMENT = {"XDG_CACHE_HOME": "cache"}

BOTH = ("cached", "found")
PLACES = {
    "checkpoints": ("run/checkpoints/*/**/*", BOTH),
    "checkpoint folders": ("run/checkpoints/*", BOTH),
    "rows": ("run/metrics.jsonl", BOTH),
    "snapshots": ("run/snapshots/*/**/*", ("found",)),
    "other files of a run": ("run/*.*", BOTH),
    "cached pixels": ("cache/sgdr_jax/canvas/**/*", BOTH),
    "cached activations": ("cache/sgdr_jax/activations/*", ("cached",)),
    "compiled programs": ("cache/sgdr_jax/compiled/*-cache", BOTH),
    "networks": ("finished/final/**/*", BOTH),
    "files of a finished run": ("finished/*.*", BOTH),
}
"""Part of the campaign to the files that it damages, and the experiments that have such files."""

SAVES = {"cached": 4, "found": 5}
"""Experiment to the number of the save, of checkpoints and snapshots together, at which it is killed."""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign: a run of each experiment that was killed in the middle, and one that is finished."""
    with children.prepared(folder):
        yield _opened(folder)


def _opened(folder: Path) -> Try:
    """Return the function that tries a case, in the folder of the campaign."""
    del os.environ["JAX_COMPILATION_CACHE_DIR"]  # programs lie in the package's own folder, which it verifies

    def attempt(seed: int) -> Outcome:
        random, part = Random(f"damage {seed}"), list(PLACES)[seed % len(PLACES)]
        name = random.choice(PLACES[part][1])
        _kept(name)
        for path in ("run", "cache", "finished"):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(f"kept-{name}/{path}", path)
        done = _damage(part, random)
        if part in ("networks", "files of a finished run"):
            return _read(part, name, done)
        return _resumed(part, name, done)

    return attempt


def _kept(name: str) -> None:
    """Keep a run that was killed, with its caches, and a finished one with its predictions."""
    kept, new = Path(f"kept-{name}"), Path("new")
    children.reference(name)
    if kept.exists():
        return
    for path in ("run", "cache", "finished", new):
        shutil.rmtree(path, ignore_errors=True)
    ended = children.run(lambda: (_dies_at_save(SAVES[name]), children.train(name, "run")()), OUTPUT, children.HANGS, ENVIRONMENT)
    assert ended.code == -9, ended.output
    ended = children.run(children.train(name, "finished"), OUTPUT, children.HANGS, ENVIRONMENT)
    assert ended.code == 0, ended.output
    new.mkdir()
    for path in ("run", "cache", "finished"):
        Path(path).rename(new / path)
    shutil.copytree(new / "finished", "finished")
    (new / "predicted.csv").write_text(_predicted(name))
    for part, (_, names) in PLACES.items():
        assert name not in names or _places(part, new), f"{name} has no {part}"
    new.rename(kept)


def _dies_at_save(count: int) -> None:
    """Kill this process at the beginning of a save."""
    from sgdr_jax.runs import checkpoint

    left, save = [count], checkpoint._save

    def saving(*arguments: Any) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)
        save(*arguments)

    checkpoint._save = saving


def _places(part: str, folder: Path) -> list[Path]:
    """Return what a part may damage: folders, or files that are read again."""
    found = sorted(path for path in folder.glob(PLACES[part][0]) if path.is_dir() == (part == "checkpoint folders"))
    return [path for path in found if path.name != ".lock" and path.suffix not in (".png", ".lock", ".txt", ".csv")]


def _damage(part: str, random: Random) -> str:
    """Damage a file, or exchange, copy or rename folders; say what was done."""
    found = _places(part, Path())
    one, other = random.choice(found), random.choice(found)
    if part == "checkpoint folders" or random.random() < 0.1:
        how = random.choice(("exchanged", "renamed", "copied", "removed"))
        if how == "exchanged" and one != other:
            one.rename("aside")
            other.rename(one)
            Path("aside").rename(other)
        elif how == "renamed" or (how == "exchanged" and part == "checkpoint folders"):
            one.rename(one.with_name(f"stage-{random.randrange(3)}-step-{random.randrange(99):06d}" if one.is_dir() else f"x{one.name}"))
        elif how == "copied" and one != other:
            shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink()
            (shutil.copytree if other.is_dir() else shutil.copy)(other, one)
        else:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        return f"{how} {one} {other}"
    data = one.read_bytes()
    lines = data.split(b"\n")
    if one.suffix == ".jsonl" and random.random() < 0.5:
        at = random.randrange(len(lines) - 1)
        lines[at : at + 1] = random.choice(([], [lines[at], lines[at]], [mutations.json_text(lines[at], random)]))
        one.write_bytes(b"\n".join(lines))
    else:
        one.write_bytes((mutations.json_text if one.suffix == ".json" and random.random() < 0.5 else mutations.damaged)(data, random))
    return str(one)


def _resumed(part: str, name: str, done: str) -> Outcome:
    ended = children.run(children.train(name, "run", "--resume"), OUTPUT, children.HANGS, ENVIRONMENT)
    return _judged(part, done, ended, lambda: children.difference("run", name))


def _judged(part: str, done: str, ended: children.Ended, difference) -> Outcome:
    if fault := children.faults(ended, (0, 2)):
        return Outcome(part, fault, f"{done}: {ended.output[-250:]}")
    errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    if ended.code == 2:
        return Outcome(part, "refused" if len(errors) == 1 else "traceback", f"{done}: {ended.output[-250:]}")
    if changed := difference():
        if part == "snapshots" and "the ensembles are without it" in ended.output:  # they cannot be made again
            return Outcome(part, "told", done)
        return Outcome(part, "silent", f"{done}: {changed}")
    return Outcome(part, "same", done)


def _read(part: str, name: str, done: str) -> Outcome:
    """Evaluate with a finished run: the predictions are those of the undamaged one, or it is refused."""
    wanted, result = Path(f"kept-{name}/predicted.csv").read_text(), list[str]()

    def difference() -> str:
        return "" if result[0] == wanted else "other predictions"

    try:
        result.append(_predicted(name))
    except Failed as error:
        return _judged(part, done, error.ended, lambda: "")
    return _judged(part, done, children.Ended(0, "", 0.0), difference)


class Failed(Exception):
    """A child did not predict."""

    def __init__(self, ended: children.Ended) -> None:
        super().__init__(ended.output)
        self.ended = ended


def _predicted(name: str) -> str:
    """Return the probabilities of all test images by the finished run, whose report is made, too."""
    words = ("predict", "photos/test", "--run", "finished", "--experiment", f"{name}.py", "--out", "predicted.csv")
    for work in (words, ("report", "finished")):
        ended = children.run(children.command(*work), OUTPUT, children.HANGS, ENVIRONMENT)
        if ended.code:
            raise Failed(ended)
    return Path("predicted.csv").read_text()
