"""The training on all images: what it says when it goes worse than the one that the held-out images judged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Experiment, Stage
from sgdr_jax.core.plan import plan
from sgdr_jax.core.solve import Solve
from sgdr_jax.core.types import Schedule
from sgdr_jax.datasets import Mix, Part, Synthetic
from sgdr_jax.runs import refit
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Combined, Constant, Cosine, Images, OneCycle, Sgdr, Steps
from sgdr_jax.train.context import prepare

from ..helpers import Said, experiment


def summaries(**losses: float) -> Any:
    return [{"name": name, "train_loss": loss} for name, loss in losses.items()]


@pytest.mark.parametrize(
    ("first", "again", "told"),
    [
        *[(0.2, 0.237, False), (0.008, 0.036, False), (0.0, 0.1, False), (0.0, 0.11, True), (0.022, 0.34, True), (1.0, 2.2, True)],
        *[(0.1, math.nan, True), (0.1, math.inf, True), (math.nan, math.nan, True), (2.0, 0.1, False)],
    ],
)
def test_a_much_higher_training_loss_is_warned_of(first: float, again: float, told: bool) -> None:
    head, body = (
        Stage("head", size=8, train="head", solve=Solve(), precompute=True, views=2),
        Stage("all", size=8, lr=0.01, schedule=Constant(4)),
    )
    found = refit.loss_warnings(experiment(head, body), summaries(head=9.0, all=again), summaries(head=0.5, middle=0.1, all=first))
    assert len(found) == told and all(f"stage 'all' ended at a training loss of {again:.3f}" in line for line in found)


def test_a_refit_that_goes_worse_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("all", size=8, lr=0.01, schedule=Constant(4))
    small = experiment(stage, data=Synthetic(classes=3, train=32, valid=16, side=8), refit=True)
    fine, worse = Said(), Said()
    run(small, tmp_path / "fine", ui=fine)
    settled = refit.settled

    def violent(*args: Any) -> Experiment:
        found = settled(*args)
        return replace(found, stages=tuple(replace(stage, lr=3.0) for stage in found.stages))

    monkeypatch.setattr(refit, "settled", violent)
    run(small, tmp_path / "worse", ui=worse)
    assert not [line for line in fine.lines if "refit of stage" in line]
    (line,) = [line for line in worse.lines if "refit of stage" in line]
    assert "the first training at" in line and "--no-refit" in line


def test_a_set_that_cannot_be_joined_is_refused_before_the_first_training() -> None:
    """A run that shared another's data found out when its first training was done."""
    half = Part(Mix((Synthetic(side=8), Synthetic(side=8, seed=1)), (1.0, 2.0)), 0.5)
    alone = experiment(Stage("all", size=8, lr=0.01, schedule=Constant(1)), data=half)
    context = prepare(alone)
    for like in (None, context):
        with pytest.raises(InputError, match="data, with refit, is 'Part'; its validation images have no share of an epoch"):
            prepare(replace(alone, refit=True), like=like)


def test_a_first_training_of_fewer_updates_leaves_the_final_network_as_it_was(tmp_path: Path) -> None:
    """All that it decides is what is kept."""
    stage = Stage("all", size=8, lr=0.01, schedule=Sgdr())
    small = experiment(stage, data=Synthetic(classes=3, train=32, valid=16, test=16, side=8), keep_best=False, refit=True, epoch_steps=9)
    finals, steps = [], []
    for first in (1.0, 0.3):
        folder = tmp_path / str(first)
        summary = run(replace(small, first_epoch_share=first), folder)
        again = json.loads((folder / "refit" / "summary.json").read_text())
        steps.append((summary["stages"][0]["steps"], again["stages"][0]["steps"]))
        net = open_predictor(folder)
        finals.append(jax.tree.leaves((net.params, net.stats)))
    assert steps == [(9, 9), (4, 9)]  # 32 images are four batches
    assert all(np.array_equal(a, b) for a, b in zip(*finals, strict=True))


@pytest.mark.parametrize("cycles", [1, 5, 8, 10])
@pytest.mark.parametrize(
    "schedule",
    [
        *[Cosine(10), Cosine(Steps(100)), Cosine(Images(6400)), OneCycle(Steps(100)), Sgdr(10, Steps(10)), Sgdr(10, 1), Sgdr(4, 1, 2)],
        Combined(Cosine(Steps(100)), weight_decay=Constant(Steps(100))),
    ],
)
def test_a_refit_ends_at_the_point_of_the_schedule_that_was_chosen(schedule: Schedule, cycles: int) -> None:
    """One of a fixed number of updates, in epochs of more of them, went on past it: to rates that nothing had validated."""
    made = experiment(Stage("all", size=8, lr=0.1, schedule=schedule), data=Synthetic(train=640, valid=192), batch_size=64, refit=True)
    before = plan(made, 640)
    (p,), summaries = before.stages, [{"name": "all", "kept": True, "lr": [0.1] * 3, "cycles": cycles}]
    (again,) = plan(refit.settled(made, summaries, before.stages), 832).stages  # pyright: ignore[reportArgumentType]
    end = p.table.ends[: min(cycles, len(p.table.ends))][-1]
    assert again.steps / (again.table.whole or 0) == pytest.approx(end / p.steps, abs=0.5 / p.steps)
    assert again.scale[-1] == pytest.approx(p.scale[end - 1], abs=0.02)
