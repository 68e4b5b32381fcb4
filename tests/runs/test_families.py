"""The eight steps on a network without batch normalisation, from a file of random weights, with larger images at the end."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from sgdr_jax import Eval, Experiment, Sgd, Stage, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.plan import plan
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import ViTSmall16
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.pretrained.save import timm_weights, write_tensors
from sgdr_jax.runs.predictor import evaluate_split, open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant, Sgdr
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

from ..helpers import killed_after, same_bits, single_update

DATA = Synthetic(classes=3, train=40, valid=17, test=11, side=48)
BODY = ("early", "late")


@dataclasses.dataclass(frozen=True)
class ShallowViT(ViTSmall16):
    """ViT-S/16 with two blocks."""

    cuts: tuple[str, ...] = ("block1",)

    depth: ClassVar = 2


class Told(NullConsole):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ChainModel:
    """The network with weights from a file with timm's names."""
    random = ShallowViT(weights=None, head="classifier")
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    write_tensors(timm_weights(random, *random.build(10).init(jax.random.key(7))).tensors, file)
    return ShallowViT(weights=str(file))


def experiment(model: ChainModel, *stages: Stage, **fields: Any) -> Experiment:
    defaults = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=2), "augment": side_on(), "optimizer": Sgd()}
    return Experiment(**{"name": "vit", "data": DATA, "model": model} | defaults | fields, stages=stages)


def eight_steps(model: ChainModel, **fields: Any) -> Experiment:
    """The recipe with every step, and a larger size, whose position embeddings are resized."""
    larger = Stage("larger", size=48, lr=1e-3, schedule=Sgdr(1), recalibrate=True)
    return experiment(model, *lesson2(32, False, lr=1e-3, head_cycles=1, cycle_len=2), larger, keep_best=False, **fields)


def train(experiment: Experiment) -> tuple[Any, Any]:
    """The network before and the state after the first stage of an experiment, at a fixed rate."""
    context = prepare(experiment)
    p = context.plan.stages[0]
    stage = open_stage(context, p, context.network, NullConsole())
    before = jax.device_get((context.network.params, context.network.stats))
    hyper = hyper_rows(context, p, (0.01,) * len(p.trained))
    state = stage.state
    for step, batch in enumerate(stage_batches(context, p, 0, p.steps)):
        state, _ = single_update(stage, state, Hyper(*(row[step] for row in hyper)), batch)
    return before, jax.device_get(state)


def leaves(folder: Path) -> Any:
    net = open_predictor(folder)
    return jax.device_get((net.params, net.stats))


@pytest.fixture(scope="module")
def finished(model: ChainModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(eight_steps(model), folder)


def test_the_eight_steps_run_on_a_vision_transformer(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = finished
    assert [stage["name"] for stage in summary["stages"]] == [p.stage.name for p in plan(eight_steps(ShallowViT(weights=None)), 40).stages]
    assert np.isfinite([summary["test"][k] for k in ("loss", "tta_loss")]).all() and summary["size"] == 48
    again = evaluate_split(open_predictor(folder), "test").views.measures
    np.testing.assert_allclose([again[k] for k in summary["test"]], list(summary["test"].values()), rtol=1e-6)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [list(row["drift"]) for row in rows if "drift" in row] == [["head"]]  # measured before the last stage


def test_a_killed_run_resumes_to_the_same_bits(model: ChainModel, finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with killed_after(10):  # in the last stage
        run(eight_steps(model, checkpoint_steps=2), tmp_path / "run")
    summary = run(eight_steps(model, checkpoint_steps=2), tmp_path / "run", resume=True)
    folder, whole = finished
    assert summary["test"] == whole["test"] and same_bits(leaves(tmp_path / "run"), leaves(folder))


@pytest.mark.parametrize("train_from", ["head", 1], ids=["head", "late and head"])
def test_the_cache_and_frozen_groups(model: ChainModel, train_from: Any) -> None:
    cached = Stage("s", size=32, train=train_from, lr=0.01, schedule=Constant(2), views=2, precompute=True)
    (before, a), (_, b) = (train(experiment(model, stage)) for stage in (cached, dataclasses.replace(cached, precompute=False)))
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    frozen = BODY if train_from == "head" else BODY[:1]
    for state in (a, b):
        for group in frozen:
            assert same_bits((state.params[group], state.stats[group]), (before[0][group], before[1][group]))
        assert not same_bits(state.params["head"], before[0]["head"])


def test_two_devices_are_one(model: ChainModel) -> None:
    stage = Stage("s", size=32, lr=0.01, schedule=Constant(1))
    one, two = (train(experiment(model, stage, parallel=Parallel(devices=n)))[1] for n in (1, 2))
    for x, y in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_policies_of_batch_normalisation_change_nothing_in_the_body(model: ChainModel, tmp_path: Path) -> None:
    stage = Stage("s", size=32, lr=0.01, schedule=Constant(1), augment=False)
    states = [train(experiment(model, dataclasses.replace(stage, bn=bn)))[1] for bn in ("train", "frozen", ("early",))]
    assert all(same_bits(state.params, states[0].params) for state in states) and not jax.tree.leaves(states[0].stats["late"])
    told = Told()
    run(experiment(model, dataclasses.replace(stage, recalibrate=BODY)), tmp_path / "run", ui=told)
    assert "  no batch statistics to measure: there is no batch normalisation in early, late" in told.lines
