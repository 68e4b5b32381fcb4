"""Every experiment file plans, survives JSON, and takes two real updates on synthetic images of its own shape."""

import dataclasses
import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from sgdr_jax.cli.experiment_file import load_experiment, load_sweep
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.learning_rates import Find
from sgdr_jax.core.plan import as_csv, plan
from sgdr_jax.core.serialization import config_hash, from_json, to_json
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.sweeps.analysis.compare import compare_arms
from sgdr_jax.sweeps.runner import work
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

from .helpers import Tiny, single_update

FILES = sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_plans_and_survives_json(file):
    experiment = load_experiment(file)
    again = from_json(json.loads(json.dumps(to_json(experiment))))
    assert again == experiment and config_hash(again) == config_hash(experiment)
    made = plan(experiment, 1000)
    assert len(as_csv(made).splitlines()) == 1 + sum(p.steps for p in made.stages)


SWEEPS = [file for file in sorted((Path(__file__).parent.parent / "experiments" / "ablations").glob("*.py")) if file.stem != "base"]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_run_of_a_sweep_plans(file):
    sweep = load_sweep(file)
    runs = expand(sweep)
    assert sweep.name == file.stem and sweep.question and len(sweep.seeds) >= 5
    for run in runs:
        plan(run.experiment, 4500)
        assert config_hash(from_json(json.loads(json.dumps(to_json(run.experiment))))) == run.hash


def test_the_arms_of_the_sgdr_paper_are_the_papers():
    runs = {run.arm: plan(run.experiment, 49_000).stages[0] for run in expand(load_sweep(FILES[0].parent / "sgdr_paper.py"))}
    each = 383  # updates of an epoch
    ends = {name: np.round((np.array(p.table.ends) + 1) / each).astype(int).tolist() for name, p in runs.items()}
    assert ends["T0 = 50, Tmult = 1"] == [50, 100, 150, 200] and ends["T0 = 200, Tmult = 1"] == [200]
    assert ends["T0 = 1, Tmult = 2"] == [1, 3, 7, 15, 31, 63, 127, 255] and ends["T0 = 10, Tmult = 2"] == [10, 30, 70, 150]
    scale = runs["default, 0.05"].table.scale
    np.testing.assert_allclose([scale[each * epoch + 1] for epoch in (0, 59, 60, 120, 160)], [1, 1, 0.2, 0.04, 0.008], rtol=1e-6)


@pytest.mark.slow
def test_the_sweep_of_the_sgdr_paper_runs_on_a_stand_in(tmp_path):
    base = load_experiment(FILES[0].parent / "sgdr_paper.py")
    made = runpy.run_path(str(FILES[0].parent / "sgdr_paper.py"))["paper"](
        dataclasses.replace(base, data=Synthetic(3, 96, valid=12, test=30, side=8), model=Tiny(), batch_size=4), epochs=10, seeds=(0, 1)
    )
    done = work(made, tmp_path)
    assert [entry.state for entry in done] == ["finished"] * 14
    found = compare_arms(tmp_path, networks=True)
    names = [arm.name for arm in found.arms if arm.name.startswith("T0 = 10, Tmult = 2")]
    assert any("ensemble of all" in name for name in names) and all(len(arm.runs) == 2 for arm in found.arms)


def test_the_long_tail_gets_thinner_and_keeps_what_is_held_out():
    tail = load_sweep(FILES[0].parent / "ablations" / "balance.py").base.data
    source = dataclasses.replace(tail, data=Synthetic(4, 400, valid=40, test=40)).open()
    counts = np.bincount(source.labels["train"])
    assert counts[0] == 100 and (np.diff(counts) < 0).all() and counts[-1] == 4  # a thirtieth, rounded up
    assert len(source.labels["valid"]) == len(source.labels["test"]) == 40


# Classes, side in pixels, channels and whether an image can have several labels, of the sets whose shape is known.
SHAPES = {
    "cifar10": (10, 32, 3, False),
    "cifar100": (100, 32, 3, False),
    "sgdr_paper": (10, 32, 3, False),
    "cats_vs_dogs": (2, 48, 3, False),
    "stanford_dogs": (120, 48, 3, False),
    "oxford_flowers102": (102, 48, 3, False),
    "oxford_iiit_pet": (37, 48, 3, False),
    "eurosat": (10, 64, 3, False),
    "planet": (17, 48, 3, True),
    "imagenette": (10, 48, 3, False),
    "imagenet": (1000, 48, 3, False),
    "fashion_mnist": (10, 28, 1, False),
}
OWN = {type(load_experiment(file).model): file for file in reversed(FILES)}.values()
"""The first file of each kind of model, which is also tried with its own network; all are tried with the tiny one."""


@pytest.mark.parametrize(
    ("file", "own"),
    [pytest.param(file, False, id=file.stem) for file in FILES]
    + [pytest.param(file, True, id=f"{file.stem}'s own network", marks=pytest.mark.slow) for file in OWN],
)
def test_its_last_stage_takes_two_updates(file, own):
    experiment = load_experiment(file)
    classes, side, channels, several = SHAPES.get(file.stem, (5, 36, 3, False))
    last = dataclasses.replace(experiment.stages[-1], size=32, batch_size=8)
    if isinstance(last.lr, Find):  # a stand-in of few images has few updates in an epoch
        last = dataclasses.replace(last, lr=dataclasses.replace(last.lr, epochs=10))
    small = dataclasses.replace(
        experiment,
        data=Synthetic(classes, max(20, classes), valid=10, side=side, channels=channels, multi_label=several),
        model=dataclasses.replace(experiment.model, weights=None) if own else Tiny(),
        stages=(last,),
        evaluate=dataclasses.replace(experiment.evaluate, batch_size=8),
    )
    context = prepare(small)
    p = context.plan.stages[0]
    stage = open_stage(context, p, context.network, NullConsole())
    before = jax.device_get(stage.state.params)
    rows, state = hyper_rows(context, p, (1e-3,) * len(p.trained)), stage.state
    for step, fed in enumerate(stage_batches(context, p, 0, 2)):
        state, sums = single_update(stage, state, Hyper(*(r[step] for r in rows)), fed)
    assert int(state.step) == 2 and np.isfinite(float(sums["loss"]))
    assert ("f2" in sums) == several
    for group in p.trained:
        moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), state.params[group], before[group])
        assert any(jax.tree.leaves(moved)), group
