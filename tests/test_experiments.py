"""Every experiment file plans, survives JSON, and takes two real updates on synthetic images of its own shape."""

import dataclasses
import json
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
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

from .helpers import Tiny

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
        state, sums = stage.update(state, Hyper(*(r[step] for r in rows)), fed)
    assert int(state.step) == 2 and np.isfinite(float(sums["loss"]))
    assert ("f2" in sums) == several
    for group in p.trained:
        moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), state.params[group], before[group])
        assert any(jax.tree.leaves(moved)), group
