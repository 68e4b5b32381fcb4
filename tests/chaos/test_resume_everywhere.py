"""Resumed after each of its updates, a run saves the same bits as an undisturbed one: parameters, statistics, optimizer state, rows.

The undisturbed run saves a checkpoint after every update, and its folder is copied after each: what a kill at that moment leaves.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import children


def recording(file: str, copies: str = "") -> Callable[[], None]:
    """Return work that makes a process record a digest of the arrays of each checkpoint that it saves, and copy the run folder then."""

    def arm() -> None:
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

    return arm


def saved(file: str) -> dict[str, Any]:
    return {f"{folder} {name}": rest for folder, name, *rest in map(json.loads, Path(file).read_text().splitlines())}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Folder of the runs; this process stays there."""
    before = dict(os.environ), Path.cwd()
    folder = tmp_path_factory.mktemp("everywhere")
    children.prepare(folder)
    yield folder
    os.environ.clear()
    os.environ |= before[0]
    os.chdir(before[1])


def train(name: str, processes: int, arm: Callable[[], None]) -> None:
    if processes == 1:
        ends = [children.run(lambda: (arm(), children.train(name, "run", "--resume")()), Path("output"), 300, {"XDG_CACHE_HOME": "cache"})]
    else:
        ends = children.pair("run", lambda i: arm, name)
    for ended in ends:
        assert ended.code == 0, ended.output


@pytest.mark.slow
@pytest.mark.parametrize("name", children.NAMES)
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.hosts)])
def test_a_run_resumed_after_any_update_saves_the_same_bits(name: str, processes: int, place: Path) -> None:
    for old in (*place.glob("at-*"), place / "run", place / "whole"):
        shutil.rmtree(old, ignore_errors=True)
    for old in place.glob("*.jsonl"):
        old.unlink()
    train(name, processes, recording("whole.jsonl", "at"))
    whole, wanted = saved("whole.jsonl"), children.results_of("run")
    Path("run").rename("whole")
    starts = sorted(place.glob("at-*"))
    assert len(starts) >= 4 and any(count > 20 for _, count, _ in whole.values())  # slots of the optimizer among them
    for i, start in enumerate(starts):
        start.rename("run")
        train(name, processes, recording(f"{i}.jsonl"))
        for key, facts in saved(f"{i}.jsonl").items():
            assert facts == whole[key], f"{key}, resumed from {start.name}"
        assert children.results_of("run") == wanted, start.name
        shutil.rmtree("run")
