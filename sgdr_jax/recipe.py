"""The recipe: stages folded over one network, each from the best state so far, with everything kept in a run folder."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import checkpoint, lr_finder, optim, report
from .config import AdamW, Experiment, Find, Sgd
from .logbook import Logbook
from .loop import Best, Score, Standing, Work, fit
from .pipeline import Batch, train_batches
from .plan import StagePlan, ratios
from .progress import Quiet
from .rng import key_for
from .setting import Setting, activations, augmentations, judge, prepare, view_logits
from .state import Hyper, TrainState, Tree


class Network(NamedTuple):
    """Parameters and statistics between stages, and the size they were last trained at."""

    params: Tree
    stats: Tree
    size: int


def hyper_rows(setting: Setting, p: StagePlan, peaks: tuple[float, ...]) -> Hyper:
    """The numbers of every update of a stage, float32: lr [steps, trained groups], the others [steps]."""
    assert isinstance(p.optimizer, Sgd | AdamW)
    lr = p.table.scale[:, None] * np.asarray(peaks)[None, :]
    constant = (np.full(p.steps, value) for value in (p.optimizer.weight_decay, setting.experiment.label_smoothing))
    return Hyper(*(np.asarray(rows, np.float32) for rows in (lr, p.momentum, *constant)))


class StageRun(NamedTuple):
    """One stage made ready: its first state, how it is updated and how it is validated."""

    state: TrainState
    update: Any
    validate: Any


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

    def inputs(index: jax.Array, draw: jax.Array) -> jax.Array:
        if cached is not None:
            return run.rows(cached, draw if copies else index)
        pixels = run.augmented(images, index, draw, keys["augment"], augmentations=augment, size=size) if augment else run.plain(images, index, size=size)
        return run.forward(*frozen, pixels, start=None, stop=p.start) if p.frozen else pixels

    def update(state: TrainState, hyper: Hyper, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        index, draw, weight, target = run.devices.scatter((batch.index, batch.draw, batch.weight, labels[batch.index]))
        return step(state, hyper, inputs(index, draw), target, weight, keys["dropout"])

    def validate(state: TrainState) -> dict[str, float]:
        if valid is None:
            logits = run.logits(state.params, state.stats, setting.images["valid"], size)
        else:
            logits = run.map(lambda index, _: run.predict(state.params, state.stats, run.rows(valid, index), start=p.start), len(valid))
        return judge(setting, logits[None], setting.data.labels["valid"])

    state = TrainState(np.int32(0), params, stats, optim.init(p.optimizer, p.trained, params))
    return StageRun(run.devices.replicate(state), update, validate)


def stage_batches(setting: Setting, p: StagePlan, first: int, steps: int) -> Any:
    """The training batches of updates first … first + steps - 1 of a stage."""
    return train_batches(
        setting.experiment.seed,
        p.index,
        setting.data.labels["train"],
        batch_size=p.batch_size,
        first_step=first,
        steps=steps,
        views=p.copies,
        balance=setting.experiment.balance,
    )


def find_lr(setting: Setting, p: StagePlan, stage: StageRun, find: Find, ui: Quiet) -> lr_finder.Curve:
    """Runs the learning-rate finder for a stage on a copy of its state, with the stage's own update program."""
    shares = np.asarray(ratios(find, p.trained))
    base = hyper_rows(setting, p, (0.0,) * len(p.trained))
    rest = [np.float32(rows[0]) for rows in (np.full(1, p.optimizer.momentum), base.weight_decay, base.label_smoothing)]  # pyright: ignore[reportAttributeAccessIssue]

    def update(state: TrainState, lr: float, batch: Batch) -> tuple[TrainState, float]:
        state, sums = stage.update(state, Hyper((lr * shares).astype(np.float32), *rest), batch)
        return state, float(sums["loss"]) / max(float(sums["weight"]), 1.0)

    with ui.bar(f"find lr: {p.stage.name}", find.steps) as tick:
        return lr_finder.range_test(update, setting.engine.devices.replicate(stage.state), stage_batches(setting, p, 0, find.steps), find, tick)


class Memory(NamedTuple):
    """What a checkpoint says besides its arrays; JSON data, so that it can be read before the arrays are.

    Attributes:
        stage, step: position: updates done in that stage.
        lr: peak rates of the stage, found or given.
        lowest, stale, stopped: see `loop.Standing`.
        best: accuracy, loss, stage and cycle of the best state, or None before the first validation.
        seconds: spent in the stage so far.
        stages: summaries of the finished stages.
    """

    stage: int
    step: int
    lr: list[float]
    lowest: float | None
    stale: int
    stopped: str
    best: list[float] | None
    seconds: float
    stages: list[dict[str, Any]]


def _stage_summary(book: Logbook, p: StagePlan, lr: tuple[float, ...], seconds: float, standing: Standing) -> dict[str, Any]:
    """A finished stage in numbers, from the rows it logged; validation figures are those of its best cycle."""
    rows = [row for row in book.rows() if row["stage"] == p.stage.name]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    evals = [row for row in rows if row["kind"] == "eval"]
    at = max(evals, key=lambda row: (row["accuracy"], -row["loss"]))
    return {
        "name": p.stage.name,
        "size": p.stage.size,
        "epochs": len(losses) / p.steps_per_epoch,
        "steps": len(losses),
        "seconds": seconds,
        "train_loss": float(np.mean(losses[-p.steps_per_epoch :])),
        "valid_loss": at["loss"],
        "valid_accuracy": at["accuracy"],
        "lr": list(lr),
        "kept": standing.best is not None and standing.best.stage == p.index,
        "stopped": standing.stopped,
    }


def _choose_lr(setting: Setting, p: StagePlan, stage: StageRun, book: Logbook, ui: Quiet) -> tuple[float, ...]:
    """The stage's peak rates: as given, or found, recorded and drawn."""
    if p.lr is not None:
        return p.lr
    find = p.stage.lr
    assert isinstance(find, Find)
    curve = find_lr(setting, p, stage, find, ui)
    book.write_finder(p.stage.name, dataclasses.asdict(curve))
    rates = tuple(curve.chosen * share for share in ratios(find, p.trained))
    ui.say(f"  lr {', '.join(f'{g} {r:.2e}' for g, r in zip(p.trained, rates, strict=True))} by rule {curve.rule}: {curve.verdict}")
    return rates


def run_stage(setting: Setting, p: StagePlan, now: Network, best: Best | None, memory: Memory | None, done: list[dict[str, Any]], book: Logbook, ui: Quiet) -> tuple[Network, Best | None]:
    """Runs one stage from `now`, or from a checkpoint of it when `memory` speaks of this stage; appends its summary to `done`."""
    began = time.perf_counter() - (memory.seconds if memory else 0.0)
    ui.say(f"[bold]{p.stage.name}[/bold]: {p.steps} updates at {p.stage.size} px, trains {', '.join(p.trained)}")
    copy = setting.engine.devices.replicate
    stage = open_stage(setting, p, now.params, now.stats, ui)
    first, standing, state = 0, Standing(best), stage.state
    if memory:
        state, best = _restore(setting, book.path, memory, state)
        first, standing = memory.step, Standing(best, np.inf if memory.lowest is None else memory.lowest, memory.stale, memory.stopped)
    rates = tuple(memory.lr) if memory else _choose_lr(setting, p, stage, book, ui)
    hyper = hyper_rows(setting, p, rates)

    def log(row: dict[str, Any]) -> None:
        extra = {"stage": p.stage.name, "stage_index": p.index, "epoch": row["step"] / p.steps_per_epoch, "seconds": time.perf_counter() - began}
        if "lr" in row:
            row = row | {"lr": dict(zip(p.trained, row["lr"], strict=True))}
        book.append(row | extra)

    def save(state: TrainState, standing: Standing) -> None:
        b = standing.best
        facts = Memory(
            stage=p.index,
            step=int(state.step),
            lr=list(rates),
            lowest=float(standing.lowest) if np.isfinite(standing.lowest) else None,
            stale=standing.stale,
            stopped=standing.stopped,
            best=[b.score.accuracy, b.score.loss, b.stage, b.cycle] if b else None,
            seconds=time.perf_counter() - began,
            stages=done,
        )
        arrays = {"state": state._asdict(), "best": {"params": b.params, "stats": b.stats} if b else {}}
        checkpoint.save(book.path / "checkpoints", f"stage-{p.index:02d}-step-{int(state.step):07d}", arrays, facts._asdict())

    if first < p.steps and not standing.stopped:
        with ui.bar(p.stage.name, p.steps - first) as tick:
            work = Work(stage.update, stage.validate, log, save, lambda _, loss: tick(1, note=f"loss {loss:.3f}"))
            batches = stage_batches(setting, p, first, p.steps - first)
            state, standing = fit(
                state,
                standing,
                work,
                hyper=hyper,
                batches=batches,
                cycle=p.table.cycle,
                copy=copy,
                stage=p.index,
                first=first,
                patience=p.stage.patience,
                save_every=setting.experiment.checkpoint_steps,
            )
    done.append(_stage_summary(book, p, rates, time.perf_counter() - began, standing))
    ui.say(f"  validation loss {done[-1]['valid_loss']:.4f}, accuracy {done[-1]['valid_accuracy']:.4f}" + (f"; stopped: {standing.stopped}" if standing.stopped else ""))
    best = standing.best
    if setting.experiment.keep_best and best is not None:
        if best.stage != p.index:
            ui.say(f"  not better than stage {setting.experiment.stages[best.stage].name!r} on the validation images: undone")
        return Network(copy(best.params), copy(best.stats), setting.experiment.stages[best.stage].size), best
    return Network(state.params, state.stats, p.stage.size), best
