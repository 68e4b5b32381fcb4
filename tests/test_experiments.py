"""Every experiment file plans, survives JSON, and takes two real updates on synthetic images of its own shape."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from sgdr_jax.config import config_hash, from_json, to_json
from sgdr_jax.datasets import FashionMnist, Synthetic
from sgdr_jax.experiment_file import load
from sgdr_jax.plan import as_csv, plan
from sgdr_jax.progress import Quiet
from sgdr_jax.setting import prepare
from sgdr_jax.stage import hyper_rows, open_stage, stage_batches
from sgdr_jax.state import Hyper

FILES = sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_plans_and_survives_json(file):
    experiment = load(file)
    again = from_json(json.loads(json.dumps(to_json(experiment))))
    assert again == experiment and config_hash(again) == config_hash(experiment)
    made = plan(experiment, 1000)
    assert len(as_csv(made).splitlines()) == 1 + sum(p.steps for p in made.stages)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_last_stage_takes_two_updates(file):
    experiment = load(file)
    channels = 1 if isinstance(experiment.data, FashionMnist) else 3
    last = dataclasses.replace(experiment.stages[-1], size=32, batch_size=8)
    small = dataclasses.replace(
        experiment,
        data=Synthetic(classes=5, train=20, valid=10, side=36, channels=channels),
        model=dataclasses.replace(experiment.model, weights=None),
        stages=(last,),
        evaluate=dataclasses.replace(experiment.evaluate, batch_size=8),
    )
    setting = prepare(small)
    p = setting.plan.stages[0]
    stage = open_stage(setting, p, setting.params, setting.stats, Quiet())
    before = jax.device_get(stage.state.params)
    rows, state = hyper_rows(setting, p, (1e-3,) * len(p.trained)), stage.state
    for step, batch in zip(range(2), stage_batches(setting, p, 0, 2), strict=True):
        state, sums = stage.update(state, Hyper(*(r[step] for r in rows)), batch)
    assert int(state.step) == 2 and np.isfinite(float(sums["loss"]))
    for group in p.trained:
        moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), state.params[group], before[group])
        assert any(jax.tree.leaves(moved)), group
