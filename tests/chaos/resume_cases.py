"""Resumed after each of its updates, a run saves the same bits as an undisturbed one: parameters, statistics, optimizer state, rows.

The undisturbed run saves a checkpoint after every update, and its folder is copied then: what a kill at that moment leaves. Seeds 0 to 3
are the experiments in one process, 4 to 7 those in two.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from . import children
from .campaign import Outcome, Try

OUTPUT = Path("output")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign."""
    with children.prepared(folder):
        yield lambda seed: attempt(children.NAMES[seed % 4], 1 + seed // 4 % 2)


def attempt(name: str, processes: int) -> Outcome:
    """Run an experiment, then from each of its updates on."""
    part = "every update" if processes == 1 else "every update, two processes"
    for old in (*Path().glob("at-*"), Path("run"), Path("whole"), Path("cache")):
        shutil.rmtree(old, ignore_errors=True)
    for old in Path().glob("*.jsonl"):
        old.unlink()
    if failed := _train(name, processes, partial(_record, "whole.jsonl", "at")):
        return Outcome(part, failed[0], failed[1])
    whole, wanted, starts = _saved("whole.jsonl"), children.results_of("run"), sorted(Path().glob("at-*"))
    Path("run").rename("whole")
    assert len(starts) >= 3 and any(count > 20 for _, count, _ in whole.values()), whole  # slots of the optimizer among them
    for start in starts:
        start.rename("run")
        if failed := _train(name, processes, partial(_record, f"{start}.jsonl")):
            return Outcome(part, failed[0], f"from {start}: {failed[1]}")
        for key, facts in _saved(f"{start}.jsonl").items():
            if facts != whole.get(key):
                return Outcome(part, "silent", f"{key}, resumed from {start}")
        if children.results_of("run") != wanted:
            return Outcome(part, "silent", f"results, resumed from {start}")
        shutil.rmtree("run")
    return Outcome(part, "same", f"{name}: {len(starts)} updates, {len(whole)} checkpoints and networks compared")


def _record(file: str, copies: str = "") -> None:
    """Make this process record a digest of the arrays of each checkpoint that it saves, and copy the run folder then."""
    from sgdr_jax.runs import checkpoint

    save = checkpoint._save

    def saving(folder: Path, name: str, arrays: dict[str, Any], metadata: dict[str, Any], run: str) -> None:
        facts = {key: value for key, value in metadata.items() if key not in ("seconds", "stages", "rows")}
        with open(file, "a") as lines:
            lines.write(json.dumps([str(folder).partition("/run")[2], name, children.digest(arrays), len(arrays), facts]) + "\n")
        save(folder, name, arrays, metadata, run)
        if copies and "-step-" in name:
            place = f"{copies}-{len(list(Path().glob(f'{copies}-*'))):02}"
            shutil.copytree("run", place, ignore=shutil.ignore_patterns(".lock"))

    checkpoint._save = saving


def _saved(file: str) -> dict[str, Any]:
    return {f"{folder} {name}": rest for folder, name, *rest in map(json.loads, Path(file).read_text().splitlines())}


def _train(name: str, processes: int, arm: Callable[[], None]) -> tuple[str, str] | None:
    """Train in one or two processes; return outcome and output of one that failed."""
    if processes == 1:
        work = partial(children.in_turn, arm, children.train(name, "run", "--resume"))
        ends = [children.run(work, OUTPUT, children.HANGS, {"XDG_CACHE_HOME": "cache"})]
    else:
        ends = children.pair("run", lambda i: arm, name)
    return next(((fault, ended.output[-300:]) for ended in ends if (fault := children.faults(ended, (0,)))), None)
