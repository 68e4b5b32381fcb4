"""Updates from stored images as one program against one by one, whatever trains, mixes, freezes or is shared by devices."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from sgdr_jax import AdamW, Experiment, Sgd, Stage
from sgdr_jax.augment import Flip, Lighting, MixUp, Rotate
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Eval, Parallel
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.distributed.compilation_cache import compiled
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train.context import RunContext, prepare
from sgdr_jax.train.multi_step import spans
from sgdr_jax.train.stage import loop_plan, open_stage, span_of
from sgdr_jax.train.stage_inputs import stage_batches

from ..helpers import Tiny, same_bits

LR = (1e-3, 3e-3, 1e-2)
AUGMENT = (Rotate(10), Flip(), Lighting(0.1, 0.1))
DATA = Synthetic(classes=3, train=40, valid=8, side=20)


def ready(stage: Stage, span: int, parallel: Parallel, **fields: Any) -> RunContext:
    fields = {
        "batch_size": 16,
        "augment": AUGMENT,
        "data": DATA,
        "label_smoothing": 0.1,
        "model": Tiny(dropout=(0.1, 0.5), hidden=4),
    } | fields
    parallel = replace(parallel, steps_per_execution=span)
    return prepare(Experiment(name="spans", stages=(stage,), evaluate=Eval(batch_size=8), parallel=parallel, **fields))


def trained(context: RunContext, cut: list[tuple[int, int]] | None = None) -> tuple[Any, list[np.ndarray], list[int]]:
    """The last state, the losses, and the number of updates of each dispatch; as the plan cuts the stage, or as told."""
    (p,) = context.plan.stages
    stage = open_stage(context, p, context.network, NullConsole())
    plan = loop_plan(context, p, p.lr)
    batches = list(stage_batches(context, p, 0, p.steps, with_images=False))
    state, losses, counts = stage.state, [], []
    for start, count in cut or spans(plan.section, plan.span, plan.save_every):
        rows = Hyper(*(rows[start : start + count] for rows in plan.hyper))
        state, sums = stage.update(state, rows, batches[start : start + count])
        losses += np.atleast_1d(np.asarray(sums["loss"]))[:count].tolist()
        counts.append(count)
    return jax.device_get(state), losses, counts


EVERYTHING = Stage("s", size=(16, 20), lr=LR, schedule=Sgdr(2, 2), strength=(0.5, 1.0))
FROZEN = Stage("s", size=16, train="head", lr=0.1, schedule=Sgdr(2, 1, 2), repeats=2, accumulate=2)
WAYS: dict[str, tuple[Stage, dict[str, Any]]] = {
    "everything": (EVERYTHING, {"augment": (*AUGMENT, MixUp()), "optimizer": Sgd(sam=0.05), "data": replace(DATA, multi_label=True)}),
    "frozen": (FROZEN, {"optimizer": AdamW(ema=0.9)}),
}


PLACES = {"one": Parallel(1), "jit": Parallel(4), "pmap": Parallel(4, "pmap"), "sharded": Parallel(4, sharded=True)}


def in_float64(way: str, span: int, parallel: Parallel) -> tuple[Any, list[np.ndarray], list[int]]:
    """In float64 rounding hides no fault: a compiler may round the same arithmetic otherwise within a loop."""
    stage, fields = WAYS[way]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return trained(ready(stage, span, parallel, compute="float64", **fields))


@cache
def alone(way: str) -> tuple[Any, list[np.ndarray], list[int]]:
    return in_float64(way, 1, Parallel(1))


@pytest.mark.parametrize("way, place", [*(("frozen", place) for place in PLACES), ("everything", "one"), ("everything", "jit")])
def test_a_span_of_updates_is_one_update_after_the_other(way: str, place: str) -> None:
    state, losses, counts = in_float64(way, 4, PLACES[place])
    assert max(counts) == 4 > min(counts) and set(alone(way)[2]) == {1}
    np.testing.assert_allclose(losses, alone(way)[1], rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), state, alone(way)[0])


def test_where_a_stage_is_cut_does_not_change_its_bits() -> None:
    """Whole spans, cut ones as before checkpoints and after resuming, and single updates: the same program does them all."""
    stage = Stage("s", size=16, lr=LR, schedule=Sgdr(1, 4))
    context = ready(stage, 4, Parallel(1))
    whole = trained(context)
    for cut in ([(0, 3), (3, 1), (4, 4), (8, 4)], [(i, 1) for i in range(12)]):
        assert whole[2] == [4, 4, 4]
        assert same_bits(trained(context, cut)[:2], whole[:2])


def test_the_span_of_a_stage_is_chosen_by_device_memory_and_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("s", size=16, lr=LR, schedule=Sgdr(1, 40))  # 120 updates, four spans of 30 rather than of up to 32
    head = replace(stage, train="head", lr=0.1)
    late = replace(stage, train=("late", "head"), lr=0.1)

    def chosen(stage: Stage = stage, span: int = 0, devices: int = 1, **fields: Any) -> int:
        context = ready(stage, span, Parallel(devices), **fields)
        return span_of(context, context.plan.stages[0])

    assert chosen(span=7) == 7 and chosen(span=999) == 120 and chosen(span=9, checkpoint_steps=5) == 5
    assert chosen(span=7, images="streamed") == 1 and chosen(late, span=7, images="streamed") == 7
    mixing = {"augment": (MixUp(),), "batch_size": 12}  # three images on each of four devices: the fourth belongs to another
    assert chosen(span=7, devices=4, **mixing) == 1 and chosen(span=7, devices=2, **mixing) == 7
    assert chosen() == chosen(late) == 1  # convolutions that train, on a CPU
    assert chosen(head) == chosen(head, images="streamed") == chosen(replace(head, precompute=True, augment=False)) == 30
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert chosen() == chosen(late) == 30 and chosen(checkpoint_steps=5) == 5 and chosen(images="streamed") == 1
    monkeypatch.setattr("sgdr_jax.train.stage.SPAN_BYTES", 10 * 16 * 19 * 19 * 3)  # the stored side is 1.15 times that of the stage
    assert chosen() == 10 and chosen(devices=2) == 20 and chosen(head) == 30
    monkeypatch.setattr("sgdr_jax.train.stage.SPAN_BYTES", 6 * 16 * 8 * 8 * 4 * 2)  # activations bfloat16 [8, 8, 4] of the first group
    assert chosen(late) == 6


def test_stages_that_train_the_same_groups_share_their_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head on cached activations and on images; in a run the second stage compiles only what makes its images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = Stage("cached", size=16, train="head", lr=0.1, schedule=Sgdr(1, 4), precompute=True, augment=False)
    context = ready(cached, 0, Parallel(1))
    plans = [context.plan.stages[0], replace(context.plan.stages[0], stage=replace(cached, precompute=False, augment=True))]
    counts = []
    for p in plans:
        stage = open_stage(context, p, context.network, NullConsole())
        feds = list(stage_batches(context, p, 0, 2, with_images=False))
        rows = Hyper(*(rows[:2] for rows in loop_plan(context, p, p.lr).hyper))
        before = compiled()
        stage.update(stage.state, rows, feds)
        counts.append((compiled() - before).names)
    assert counts[0]["update_head"][0] == 1 and "update_head" not in counts[1] and "augmented" in counts[1]
