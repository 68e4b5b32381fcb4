"""One stage closed over data, network and programs: its inputs, its update, its validation, its learning-rate finder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import lr_finder, optim
from .config import AdamW, Find, Sgd
from .evaluate import judge
from .pipeline import Batch, train_batches
from .plan import StagePlan, ratios
from .progress import Quiet
from .rng import key_for
from .sampling import repeated
from .setting import Setting, activations, augmentations
from .state import Hyper, TrainState, Tree


def hyper_rows(setting: Setting, p: StagePlan, peaks: tuple[float, ...]) -> Hyper:
    """The numbers of every update of a stage, float32: lr [steps, trained groups], the others [steps]."""
    assert isinstance(p.optimizer, Sgd | AdamW)
    lr = p.table.scale[:, None] * np.asarray(peaks)[None, :]
    constant = (np.full(p.steps, value) for value in (p.optimizer.weight_decay, setting.experiment.label_smoothing))
    return Hyper(*(np.asarray(rows, np.float32) for rows in (lr, p.momentum, *constant)))


def strength_at(p: StagePlan, step: Any) -> Any:
    """Strength of a stage's augmentations at an update: None (as described, 1), or a float32 scalar on the way from first to last."""
    ends = p.stage.strength
    if ends == 1:
        return None
    first, last = ends if isinstance(ends, tuple) else (ends, ends)
    return jnp.asarray(first + (last - first) / max(p.steps - 1, 1) * jnp.asarray(step, jnp.float32), jnp.float32)


class StageRun(NamedTuple):
    """One stage made ready: its first state, how it is updated and how it is validated."""

    state: TrainState
    update: Callable[[TrainState, Hyper, Batch], tuple[TrainState, dict[str, Any]]]
    validate: Callable[[TrainState], dict[str, float]]


def first_state(p: StagePlan, params: Tree, stats: Tree) -> TrainState:
    """A stage's state before its first update: a fresh optimizer around the network."""
    return TrainState(jnp.int32(0), params, stats, optim.init(p.optimizer, p.trained, params))


def open_stage(setting: Setting, p: StagePlan, params: Tree, stats: Tree, ui: Quiet) -> StageRun:
    """Closes one stage over data and programs: images → pixels → frozen groups → update, with the cache where the stage asks for it."""
    run, size = setting.engine, p.stage.size
    images, labels = setting.images["train"], setting.data.labels["train"]
    augment, copies = augmentations(setting, p), p.copies
    keys = {stream: key_for(setting.experiment.seed, stream, p.index) for stream in ("augment", "dropout")}
    frozen = [{g: tree[g] for g in p.frozen} for tree in (params, stats)]
    cached = run.devices.replicate(activations(setting, p, params, stats, "train", copies, ui)) if p.stage.precompute else None
    valid = run.devices.replicate(activations(setting, p, params, stats, "valid", 0, ui)) if p.frozen else None
    step = run.step(p)

    mixes = any(a.does("mix") for a in augment) and cached is None

    def inputs(index: jax.Array, draw: jax.Array, target: Any, strength: Any) -> tuple[jax.Array, Any]:
        if cached is not None:
            return run.rows(cached, draw if copies else index), target
        pixels = (
            run.augmented(images, index, draw, keys["augment"], strength, augmentations=augment, size=size)
            if augment
            else run.plain(images, index, size=size)
        )
        if mixes:
            pixels, target = run.mixed(pixels, target, draw, keys["augment"], strength, augmentations=augment)
        return run.forward(*frozen, pixels, start=None, stop=p.start) if p.frozen else pixels, target

    def update(state: TrainState, hyper: Hyper, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        index, draw, weight, target = run.devices.scatter((batch.index, batch.draw, batch.weight, labels[batch.index]))
        x, target = inputs(index, draw, target, strength_at(p, state.step))
        return step(state, hyper, x, target, weight, keys["dropout"])

    def validate(state: TrainState) -> dict[str, float]:
        if valid is None:
            images = setting.images["valid"]
            logits = run.map(lambda index, _: run.predict(state.params, state.stats, run.plain(images, index, size=size)), len(images))
        else:
            logits = run.map(lambda index, _: run.predict(state.params, state.stats, run.rows(valid, index), start=p.start), len(valid))
        return judge(logits, setting.data.labels["valid"])

    return StageRun(run.devices.replicate(first_state(p, params, stats)), update, validate)


def stage_batches(setting: Setting, p: StagePlan, first: int, stop: int) -> Iterator[Batch]:
    """The training batches of updates first … stop - 1 of a stage."""
    times = p.stage.repeats
    batches = train_batches(
        setting.experiment.seed,
        p.index,
        setting.data.labels["train"],
        batch_size=p.batch_size,
        first_step=first // times,
        steps=-(-stop // times),
        views=p.copies,
        balance=setting.experiment.balance,
    )
    return repeated(batches, times, first) if times > 1 else batches


def find_lr(setting: Setting, p: StagePlan, stage: StageRun, find: Find, ui: Quiet) -> lr_finder.Curve:
    """Runs the learning-rate finder for a stage on a copy of its state, with the stage's own update program."""
    shares = np.asarray(ratios(find, p.trained))
    base = hyper_rows(setting, p, (0.0,) * len(p.trained))
    rest = [np.float32(rows[0]) for rows in (np.full(1, p.optimizer.momentum), base.weight_decay, base.label_smoothing)]  # pyright: ignore[reportAttributeAccessIssue]

    def update(state: TrainState, lr: float, batch: Batch) -> tuple[TrainState, float]:
        state, sums = stage.update(state, Hyper((lr * shares).astype(np.float32), *rest), batch)
        return state, float(sums["loss"]) / max(float(sums["weight"]), 1.0)

    with ui.bar(f"find lr: {p.stage.name}", find.steps) as tick:
        return lr_finder.range_test(
            update, setting.engine.devices.replicate(stage.state), stage_batches(setting, p, 0, find.steps), find, tick
        )
