"""The eight steps on shallow networks of three families, from a file of random weights: frozen bits, cache, devices, resume to the bit."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from sgdr_jax import AdamW, Eval, Experiment, Sgd, Stage, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import ConvNeXtNano, EfficientNetV2B0, MobileNetV4Small
from sgdr_jax.models.pretrained.save import timm_weights, write_tensors
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant
from sgdr_jax.train.context import RunContext, prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

from ..helpers import killed_after, single_update

pytestmark = pytest.mark.slow
SIZE = 32
DATA = Synthetic(classes=3, train=24, valid=9, test=9, side=SIZE)


@dataclasses.dataclass(frozen=True)
class ConvNeXt(ConvNeXtNano):
    """One block in each stage."""

    depths: ClassVar = (1, 1, 1, 1)


@dataclasses.dataclass(frozen=True)
class EfficientNetV2(EfficientNetV2B0):
    """One to three blocks in each stage."""

    cuts: tuple[str, ...] = ("block3",)

    depth: ClassVar = 0.3


@dataclasses.dataclass(frozen=True)
class MobileNetV4(MobileNetV4Small):
    """One block of each arrangement."""

    rows: ClassVar = ((2, 5, 5, 2, 3, 96), (2, 0, 3, 1, 2, 96), (2, 3, 0, 1, 4, 96), (3, 3, 3, 2, 6, 128))


@pytest.fixture(scope="module", params=(ConvNeXt, EfficientNetV2, MobileNetV4))
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The eight steps, from a file as timm writes it."""
    kind, path = request.param, tmp_path_factory.mktemp("weights") / "model.safetensors"
    model = kind(weights=None, head="classifier")
    network = model.build(5)
    write_tensors(timm_weights(model, *network.init(jax.random.key(7))).tensors, path)
    stages = lesson2(SIZE, cycles=2, cycle_len=1, cycle_mult=1, bn="train")
    common: dict[str, Any] = {"batch_size": 8, "optimizer": AdamW(), "augment": side_on(), "checkpoint_steps": 2}
    common["parallel"] = Parallel(devices=1)
    return Experiment(kind.__name__, DATA, kind(weights=str(path)), stages, evaluate=Eval(batch_size=8, tta_views=2), **common)


def train(experiment: Experiment, stage: Stage) -> tuple[RunContext, Any, list[float]]:
    """The context, and the final state and the losses of one stage at a fixed rate."""
    context = prepare(dataclasses.replace(experiment, stages=(stage,)))
    planned = context.plan.stages[0]
    opened = open_stage(context, planned, context.network, NullConsole())
    hyper, state, losses = hyper_rows(context, planned, (1e-3,) * len(planned.trained)), opened.state, []
    for step, batch in enumerate(stage_batches(context, planned, 0, planned.steps)):
        state, sums = single_update(opened, state, Hyper(*(row[step] for row in hyper)), batch)
        losses.append(float(sums["loss"]))
    return context, state, losses


def leaves(folder: Path) -> list[np.ndarray]:
    network = open_predictor(folder)
    return [np.asarray(leaf) for leaf in jax.tree.leaves((network.params, network.stats))]


def test_a_killed_run_resumes_to_the_same_bits(experiment: Experiment, tmp_path: Path) -> None:
    """Killed in the last stage, where everything is trained."""
    whole = run(experiment, tmp_path / "whole")
    assert [stage["name"] for stage in whole["stages"]] == ["cached head", "all"]
    with killed_after(3):
        run(experiment, tmp_path / "run")
    resumed = run(experiment, tmp_path / "run", resume=True)
    assert resumed["test"] == whole["test"] and resumed["valid"] == whole["valid"]
    for ours, theirs in zip(leaves(tmp_path / "run"), leaves(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_head_on_cached_activations_is_the_head_on_the_frozen_body(experiment: Experiment) -> None:
    stage = Stage("head", size=SIZE, train="head", lr=1e-3, schedule=Constant(2), precompute=True, views=2)
    (context, cached, losses), (_, plain, others) = (train(experiment, dataclasses.replace(stage, precompute=on)) for on in (True, False))
    assert len(losses) == 6 and losses[-1] != losses[0]
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(cached.params["head"]), jax.tree.leaves(plain.params["head"]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    for group in ("early", "late"):
        for after, before in ((plain.params, context.network.params), (plain.stats, context.network.stats)):
            jax.tree.map(np.testing.assert_array_equal, after[group], before[group])


def test_two_devices_compute_what_one_does(experiment: Experiment) -> None:
    """With SGD: Adam's first step has the gradient's sign, which rounding decides where the gradient is nearly 0."""
    experiment = dataclasses.replace(experiment, optimizer=Sgd())
    stage = Stage("all", size=SIZE, lr=1e-3, schedule=Constant(1))
    one, two = (train(dataclasses.replace(experiment, parallel=Parallel(devices=count)), stage)[2] for count in (1, 2))
    assert len(one) == 3
    np.testing.assert_allclose(one, two, rtol=1e-4)
