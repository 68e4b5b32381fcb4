"""Every option of a stage on two processes, by a table that has a row for each: a run ends, and as with one process.

The rows of a few fields are stages of one experiment, so that two processes are started only a few times.
"""

import dataclasses
import inspect
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.core.experiment import Experiment, Stage

from .test_hosts import losses, start, summary

OPTIONS: dict[str, list[str]] = {
    "name": [""],
    "size": ["size=12", "size=(12, 16), schedule=Constant(2)"],
    "train": ["train='head'", "train=('late', 'head')", "train=1"],
    "lr": ["lr=(0.001, 0.002, 0.003)", "lr=Spread(0.001, 0.003)", "lr=Decay(0.003, 1 / 3)", "lr=FIND", "lr=None"],
    "schedule": [
        "schedule=Sgdr(2, cycle_len=0.5)",
        "schedule=OneCycle(1)",
        "schedule=Plateau(1, factor=0.5, patience=0)",
        "schedule=StepDecay(1, at=(0.5,))",
        "schedule=Polynomial(1)",
    ],
    "augment": ["augment=False"],
    "strength": ["strength=0.5", "strength=(0.1, 1.0)"],
    "views": ["views=2"],
    "repeats": ["repeats=2"],
    "precompute": ["train='head', views=2, precompute=True", "train='head', augment=False, precompute=True"],
    "solve": ["Stage('solved', size=16, train='head', augment=False, precompute=True, solve=Solve())"],
    "bn": ["bn='frozen'", "bn=('late', 'head')"],
    "recalibrate": ["recalibrate=True", "recalibrate=('late',)"],
    "patience": ["patience=1, schedule=Constant(3)"],
    "optimizer": [
        "optimizer=Sgd(clip=1.0)",
        "optimizer=Sgd(sam=0.05)",
        "optimizer=AdamW(ema=0.9)",
        "optimizer=Lamb()",
        "optimizer=Muon()",
    ],
    "batch_size": ["batch_size=8"],
    "accumulate": ["accumulate=2"],
}
"""Field of `Stage` to the words that set it."""

OF_THE_RUN: dict[str, str] = {
    "plain": "",
    "snapshots": "snapshots=Snapshots(last=2, best=1)",
    "moving average, snapshots": "snapshots=Snapshots(last=2), optimizer=AdamW(ema=0.9)",
    "moving average alone": "optimizer=AdamW(ema=0.9)",
    "without the best": "keep_best=False, leeway=0.0",
    "leeway, weights of classes": "leeway=1.0, class_weights=0.5",
    "oversampling, smoothing, mixing": "balance=0.5, label_smoothing=0.1, augment=(*side_on(), MixUp())",
    "streamed, refit": "images='streamed', refit=True",
    "sharded, snapshots, moving average": "parallel=Parallel(sharded=True), snapshots=Snapshots(last=2), optimizer=AdamW(ema=0.9)",
    "pmap, snapshots": "parallel=Parallel(backend='pmap'), snapshots=Snapshots(last=2)",
    "views": "evaluate=Eval(batch_size=16, tta_views=2, tta_mean='log')",
}
"""Options of a whole run that act on what several hosts hold or write."""

BEGIN = """
from sgdr_jax import AdamW, Decay, Eval, Experiment, Find, Lamb, Muon, Parallel, Sgd, Snapshots, Spread, Stage
from sgdr_jax.core.solve import Solve
from sgdr_jax.augment import MixUp, side_on
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant, OneCycle, Plateau, Polynomial, Sgdr, StepDecay
from tests.helpers import Tiny

FIND = Find(steps=12, start=1e-4, stop=0.1, lowest=0.001, epochs=3)

def stage(name, **options):
    return Stage(name, **{"size": 16, "lr": 0.002, "schedule": Constant(1)} | options)

def experiment(*stages, **options):
    common = {"data": Synthetic(classes=3, train=61, valid=21, test=19, side=16), "model": Tiny(), "batch_size": 16}
    common |= {"augment": side_on(), "optimizer": AdamW(), "compute": "float64", "evaluate": Eval(batch_size=16, tta_views=1)}
    return Experiment(**common | {"name": "options", "checkpoint_steps": 3} | options, stages=stages)

"""


def finished(text: str, folder: Path, count: int) -> Path:
    file = folder / "experiment.py"
    file.write_text(BEGIN + text)
    for process in start(file, folder / f"run{count}", count):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    return folder / f"run{count}"


def test_the_table_has_a_row_for_every_option() -> None:
    assert OPTIONS.keys() == {field.name for field in dataclasses.fields(Stage)}
    assert set(inspect.signature(Stage).parameters) == set(OPTIONS)
    known = {field.name for field in dataclasses.fields(Experiment)}
    assert {word.split("=")[0] for text in OF_THE_RUN.values() for word in ("snapshots", "keep_best", "refit") if word in text} <= known


def check_same(one: Path, two: Path) -> None:
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-7)
    first, second = summary(one), summary(two)
    for split in ("valid", "test"):
        assert second[split]["accuracy"] == first[split]["accuracy"]
        # Parameters and logits are float32, here up to 16: a last bit of a logit is 1e-6, and so much is the share of a loss near 0,
        # exp(-margin), by which it changes.
        wanted = first[split]["loss"]
        assert second[split]["loss"] == pytest.approx(wanted, rel=1e-7 if wanted > 0.1 else 1e-6)
    rows = [[(row["name"], row["valid"]["accuracy"]) for row in found.get("snapshots", ())] for found in (first, second)]
    assert rows[0] == rows[1]


@pytest.mark.hosts
@pytest.mark.parametrize("fields", list(itertools.batched(OPTIONS, 3)), ids="-".join)
def test_every_option_of_a_stage_on_two_processes(fields: tuple[str, ...], tmp_path: Path) -> None:
    words = [text for field in fields for text in OPTIONS[field]]
    stages = ",\n    ".join(text if text.startswith("Stage") else f"stage({f'{i} {text}'!r}, {text})" for i, text in enumerate(words))
    text = f"experiment = experiment(\n    {stages},\n)\n"
    one, two = (finished(text, tmp_path, count) for count in (1, 2))
    assert len(json.loads((two / "summary.json").read_text())["stages"]) == len(words)
    check_same(one, two)


@pytest.mark.hosts
@pytest.mark.parametrize("name", OF_THE_RUN)
def test_every_option_of_a_run_on_two_processes(name: str, tmp_path: Path) -> None:
    text = f"experiment = experiment(stage('head', train='head'), stage('all', schedule=Constant(2)), {OF_THE_RUN[name]})\n"
    one, two = (finished(text, tmp_path, count) for count in (1, 2))
    check_same(one, two)
    if "snapshots" in name or "average" in name:
        assert {row["name"] for row in summary(two)["snapshots"]} >= {"final network"}
