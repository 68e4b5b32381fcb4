"""What a run writes is told before it begins, and refused where there is no room."""

from __future__ import annotations

import shutil
from collections import namedtuple
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Eval, Experiment, Stage
from sgdr_jax.core.optimizers import AdamW, Sgd
from sgdr_jax.core.snapshots import Snapshots
from sgdr_jax.datasets import Synthetic
from sgdr_jax.runs import checkpoint
from sgdr_jax.runs.preflight import check_disk, disk_use
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant
from sgdr_jax.train.context import prepare

from ..helpers import Said, experiment, killed_after

Usage = namedtuple("Usage", "total used free")


def small(**fields: Any) -> Experiment:
    data = Synthetic(classes=3, train=48, valid=16, side=8)
    stages = (
        Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1), views=2, precompute=True),
        Stage("all", size=8, lr=0.01, schedule=Constant(2)),
    )
    common = {"evaluate": Eval(batch_size=8, tta_views=0), "optimizer": AdamW(ema=0.9), "snapshots": Snapshots(last=1)}
    return experiment(*stages, data=data, **common | fields)


def test_the_estimate_is_what_a_run_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use, saved, real = disk_use(prepare(small())), dict[str, int](), checkpoint._save

    def save(folder: Path, name: str, arrays: dict[str, Any], *rest: Any) -> None:
        saved[name] = sum(array.nbytes for array in arrays.values())
        real(folder, name, arrays, *rest)

    monkeypatch.setattr(checkpoint, "_save", save)
    run(small(), tmp_path / "run")
    steps = [size for name, size in saved.items() if "-step-" in name]
    assert use.checkpoints == 3 * (max(steps) - 4)  # two that are kept, one that is being saved; without the count of updates
    assert use.networks == 7 * saved["final"]  # itself, a cycle end and its successor, three averages of weights, the moving average
    assert sum(size for name, size in saved.items() if "-step-" not in name) <= use.networks
    files = list((tmp_path / "cache" / "sgdr_jax" / "activations").glob("*.npy"))
    assert use.activations == sum(np.load(file).nbytes for file in files) and len(files) == 2


def test_it_is_told_before_the_run_begins(tmp_path: Path) -> None:
    ui = Said()
    run(small(), tmp_path / "run", ui=ui)
    (place,) = [i for i, line in enumerate(ui.lines) if line.startswith("disk: ")]
    assert ui.lines[place].startswith("disk: checkpoints ") and f"; free in {tmp_path}: " in ui.lines[place]
    assert place < next(i for i, line in enumerate(ui.lines) if line.startswith("head:"))


def test_a_run_without_room_is_refused_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = prepare(small())
    use = disk_use(context)
    needed = use.checkpoints + use.networks + (4 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, needed))
    check_disk(context, tmp_path, NullConsole())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, needed - 1))
    with pytest.raises(InputError, match=rf"^free space of {tmp_path} is '[\d,]+ bytes'; the run needs {needed:,} bytes for checkpoints"):
        run(small(), tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()


def test_what_a_run_has_saved_counts_as_room_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was accepted with just enough room was refused when it went on, or when it was run again in a sweep."""
    use = disk_use(prepare(small(refit=True, optimizer=AdamW(), snapshots=Snapshots())))
    needed = use.checkpoints + use.networks + (4 << 20)
    with killed_after(14):
        run(small(refit=True, optimizer=AdamW(), snapshots=Snapshots()), tmp_path)
    taken = sum(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert taken > 0
    for free, room in ((needed - taken, True), (needed - taken - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: Usage(0, 0, free))
        with nullcontext() if room else pytest.raises(InputError, match="free space"):
            check_disk(prepare(small(refit=True, optimizer=AdamW(), snapshots=Snapshots())), tmp_path, NullConsole())


@pytest.mark.parametrize("snapshots", [Snapshots(), Snapshots(last=1)])
@pytest.mark.parametrize("averaged", [(True, True), (True, False), (False, True)])
def test_moving_averages_are_of_the_last_stage_and_counted(tmp_path: Path, snapshots: Snapshots, averaged: tuple[bool, bool]) -> None:
    """One of an earlier stage was reported as if it were of the final network, and two networks were counted as one or none."""
    head, body = small().stages
    stages = (replace(head, optimizer=AdamW(ema=0.9 * averaged[0])), replace(body, optimizer=AdamW(ema=0.9 * averaged[1])))
    made = small(snapshots=snapshots, optimizer=AdamW())
    made = replace(made, stages=stages)
    summary = run(made, tmp_path)
    names = [row["name"] for row in summary.get("snapshots", ())]
    assert any("moving" in name or "ema" in name for name in names) == averaged[1]
    folders = [path for kind in ("final", "snapshots/*") for path in tmp_path.glob(kind) if (path / "metadata.json").exists()]
    network = disk_use(prepare(small(snapshots=Snapshots(), optimizer=AdamW()))).networks
    assert disk_use(prepare(made)).networks >= len(folders) * network


def test_options_that_write_less_take_less() -> None:
    most, fewer = disk_use(prepare(small())), disk_use(prepare(small(optimizer=Sgd(momentum=0.9), snapshots=Snapshots())))
    assert fewer.checkpoints < most.checkpoints and fewer.networks < most.networks
    assert disk_use(prepare(small()), keep_network=False).networks < most.networks
    twice = disk_use(prepare(small(optimizer=AdamW(), snapshots=Snapshots(), refit=True)))
    assert twice.checkpoints == 2 * disk_use(prepare(small(optimizer=AdamW(), snapshots=Snapshots()))).checkpoints
