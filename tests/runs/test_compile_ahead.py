"""Stages compiled ahead: the same programs, the same bits, nothing left to compile, and errors that come out."""

import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from sgdr_jax import Experiment
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Eval, Stage
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.distributed.compilation_cache import compiled
from sgdr_jax.runs.compile_ahead import ahead, rehearse, rehearse_evaluation
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

from ..helpers import Tiny

DATA = Synthetic(classes=3, train=24, valid=12, test=20, side=16)
STAGES = (
    Stage("cached", size=16, train="head", lr=0.01, schedule=Constant(1), views=2, precompute=True),
    Stage("head", size=16, train="head", lr=0.01, schedule=Constant(1)),
    Stage("all", size=24, lr=0.01, schedule=Constant(1)),
    Stage("repeated", size=24, lr=0.01, schedule=Constant(1), repeats=2),
)


def experiment(*stages: Stage) -> Experiment:
    from sgdr_jax.augment import side_on

    evaluate = Eval(batch_size=12, tta_views=2)
    return Experiment(name="ahead", data=DATA, model=Tiny(), batch_size=8, stages=stages or STAGES, augment=side_on(), evaluate=evaluate)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_rehearsed_stage_has_nothing_left_to_compile(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no activations of another test
    context = prepare(experiment(stage))
    p = context.plan.stages[0]
    images = jax.device_get(context.images["train"].resident)
    before = compiled()
    rehearse(context, p)
    assert (compiled() - before).programs >= 4
    assert not (tmp_path / "sgdr_jax" / "activations").exists()
    before = compiled()
    ready = open_stage(context, p, context.network, NullConsole())
    rows, state = hyper_rows(context, p, (0.01,) * len(p.trained)), ready.state
    feds = list(stage_batches(context, p, 0, 3))
    assert ready.span == (3 if stage.train == "head" else 1)
    for part in ([0], list(range(ready.span))):  # a single update is a span of the same program
        state, _ = ready.update(state, Hyper(*(r[part] for r in rows)), [feds[i] for i in part])
    ready.validate(state)
    assert (compiled() - before).programs == 0
    np.testing.assert_array_equal(images, context.images["train"].resident)


def test_a_rehearsed_evaluation_has_nothing_left_to_compile(tmp_path: Path) -> None:
    from sgdr_jax.evaluation.evaluate import view_logits

    context = prepare(experiment())
    rehearse_evaluation(context, 24)
    before = compiled()
    for split in ("valid", "test"):
        images = context.images[split]
        ids = np.arange(len(images), dtype=np.uint32)
        for v in range(3):
            logits = view_logits(context.programs, context.experiment, context.network._replace(size=24), ids, v)
            context.programs.map(logits, len(images), images)
    assert (compiled() - before).programs == 0


def test_a_run_compiled_ahead_ends_with_the_same_bits_and_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets, programs = [], []
    for name, wanted in (("warm", False), ("behind", False), ("ahead", True)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache {name}"))
        programs.append(run(experiment(), tmp_path / name, compile_ahead=wanted)["compiled"]["programs"])
        net = open_predictor(tmp_path / name)
        nets.append(jax.tree.leaves((net.params, net.stats)))
    assert programs[1] == programs[2]
    for a, b in zip(*nets[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_goes_wrong_ahead_comes_out_where_it_is_needed() -> None:
    def fail() -> None:
        raise ValueError("no such program")

    with ahead({0: lambda: None, "b": fail}) as ready:
        ready(0)
        ready("of no task")
        with pytest.raises(ValueError, match="no such program"):
            ready("b")


def test_what_has_not_begun_is_dropped_when_the_run_fails() -> None:
    began, go, done = threading.Event(), threading.Event(), []

    def slow() -> None:
        began.set()
        go.wait(10)
        done.append("slow")

    with pytest.raises(KeyError), ahead({0: slow, 1: lambda: done.append("never")}):
        began.wait(10)
        threading.Timer(0.1, go.set).start()
        raise KeyError
    assert done == ["slow"]
