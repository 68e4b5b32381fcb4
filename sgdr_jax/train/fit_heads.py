"""Several heads at once: a stage on cached activations mapped over runs that differ in numbers only.

The heads are the lanes of one program, the stage's own span of updates under `jax.vmap`. Each has the numbers of the stage run alone
(up to the rounding of products in another order), whatever the others do.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..core.console import NullConsole
from ..core.errors import Diverged
from ..core.plan import StagePlan
from ..core.rng import key_for
from ..core.state import Hyper, NetworkState, TrainState, Tree
from ..core.validation import require
from ..data.sampler import Batch, example_weights
from ..evaluation.evaluate import logit_metrics
from . import optim
from .context import RunContext
from .loop import PATIENCE, LoopPlan, diverged, last_skipped, unsound
from .model_selection import Score, StageProgress, judge
from .multi_step import spans
from .stage import SPAN_BYTES, loop_plan
from .stage_inputs import activations, stage_batches
from .steps import Span, SpanRows, Step, forward


class Head(NamedTuple):
    """A head to train.

    Attributes:
        context: its run; all runs share data and programs (`train.context.prepare` with `like`).
        network: the network before the stage; all have the same body.
        progress: with the peak rate `lr` of the stage, and the best state of earlier stages.
    """

    context: RunContext
    network: NetworkState
    progress: StageProgress


class Fitted(NamedTuple):
    """A trained head.

    Attributes:
        network: the network after the last update, its own.
        progress: of the stage, with the best state.
        losses: training loss of each update, float64 [steps].
        skipped: whether each update was skipped, see `steps.Step`.
        evals: validation metrics at each cycle's end.
        diverged: the error that the stage alone would have ended with, or None.
    """

    network: NetworkState
    progress: StageProgress
    losses: np.ndarray
    skipped: np.ndarray
    evals: list[dict[str, Any]]
    diverged: Diverged | None


def likeness(p: StagePlan) -> Hashable:
    """Return a value that is equal for stages whose heads can be trained at once; None where that is impossible.

    Such stages may differ in seed, rates, course of the rates within a cycle, momentum, weight decay, label smoothing and patience.
    """
    if p.trained != ("head",) or not p.stage.precompute or p.stage.solve:
        return None
    fixed = optim.kind(p.optimizer), p.collects, p.stage.accumulate, p.stage.augment, p.stage.strength
    return *fixed, p.index, p.batch_size, p.copies, p.size, p.table.cycle.tobytes()


def fit_heads(heads: Sequence[Head], index: int, ui: NullConsole) -> list[Fitted]:
    """Train a stage of several runs at once.

    A head that stops early or diverges keeps what it had then, while the others go on.

    Args:
        heads: at least one.
        index: of the stage, the same in all runs.
        ui: shows progress.

    Raises:
        InputError: the stages differ in more than numbers, or the networks in their bodies.
    """
    plans, run, first = [head.context.plan.stages[index] for head in heads], heads[0].context.programs, heads[0]
    p, labels = plans[0], first.context.data.labels["train"]
    known = likeness(p)
    alike = known is not None and all(likeness(other) == known for other in plans)
    require(alike, f'stage "{p.stage.name}"', len(plans), "to be trained at once, heads on cached activations may differ in numbers only")
    same = all(_same_body(head.network, first.network) for head in heads)
    require(same, f'stage "{p.stage.name}"', len(plans), "heads that are trained at once stand on one body")
    cached, offset = _caches(heads, index, ui)
    loops = [loop_plan(head.context, plan, head.progress.lr) for head, plan in zip(heads, plans, strict=True)]
    length = max(min(loops[0].span, SPAN_BYTES // (len(heads) * p.batch_size * cached[:1].nbytes)), 1)
    program = _program(run.network, optim.kind(p.optimizer), p.collects, run.dtype, p.stage.accumulate, length)
    weights = [example_weights(labels, head.context.experiment.class_weights, head.context.data.rates) for head in heads]
    keys = {"dropout": jnp.stack([key_for(head.context.experiment.seed, "dropout", index) for head in heads])}
    validate = _validation(heads, p, ui)
    fitted = [Fitted(head.network, head.progress, np.empty(0), np.empty(0, bool), [], None) for head in heads]
    feeds = [(fed.batch for fed in stage_batches(head.context, plan, 0, p.steps)) for head, plan in zip(heads, plans, strict=True)]
    state, pending = run.devices.replicate(_first_state(heads, p)), []
    with ui.bar(f"{p.stage.name}: {len(heads)} heads", p.steps) as tick:
        for start, count in spans(p.table.cycle, length):
            done = start + count
            batch = _batches(feeds, count, length)
            rows = batch.draw if p.copies else batch.index
            x = run.rows(cached, run.devices.replicate(rows + offset[:, None, None]))
            weight = batch.weight * np.stack([own[each] for own, each in zip(weights, batch.index, strict=True)])
            hyper = _hyper(loops, fitted, start, count, length)
            given = run.devices.replicate((hyper, np.int32(count), labels[batch.index], weight.astype(np.float32)))
            state, sums = program(state, SpanRows(given[0], None, given[1]), x, *given[2:], keys)
            pending.append((count, sums["loss"], sums["weight"], sums["skipped"]))
            tick(count)
            if loops[0].ends_cycle(done):
                losses = np.concatenate([np.asarray(a / jnp.maximum(w, 1), np.float64)[:, :n] for n, a, w, _ in pending], axis=1)
                skipped = np.concatenate([np.asarray(s, bool)[:, :n] for n, _, _, s in pending], axis=1)
                scores = validate(state) if validate else [None] * len(heads)
                fitted = [
                    _judged(fit, loop, (losses[i], skipped[i]), scores[i], done, partial(_network, state, i, heads[i].network, p.size))
                    for i, (fit, loop) in enumerate(zip(fitted, loops, strict=True))
                ]
                pending = []
                if all(fit.progress.stopped or fit.diverged for fit in fitted):
                    break
    return fitted


def _judged(
    fit: Fitted,
    loop: LoopPlan,
    rows: tuple[np.ndarray, np.ndarray],
    score: dict[str, Any] | None,
    done: int,
    network: Callable[[], NetworkState],
) -> Fitted:
    """Return a head after a cycle's end, unless it had stopped before."""
    if fit.progress.stopped or fit.diverged:
        return fit
    every, skipped = (np.concatenate(pair) for pair in zip((fit.losses, fit.skipped), rows, strict=True))
    streaks = np.convolve(skipped, np.ones(PATIENCE), "valid") if len(skipped) >= PATIENCE else np.zeros(0)
    starts = np.flatnonzero(streaks == PATIENCE)
    if len(starts):
        at = int(starts[0]) + PATIENCE - 1
        return fit._replace(losses=every[: at + 1], skipped=skipped[: at + 1], diverged=diverged(float(every[at]), at))
    steps, now, progress = len(loop.cycle), network(), fit.progress
    if score is not None:
        value = Score.of(score)
        progress = judge(loop.rules, progress, value, int(loop.cycle[done - 1]), lambda: now, last=done == steps)
    streak = len(skipped) - 1 - int(np.flatnonzero(~skipped).max(initial=-1))
    error = unsound(loop, progress, score["loss"], done, last_skipped(streak)) if score else None
    return Fitted(now, progress, every, skipped, fit.evals + ([score] if score else []), error)


def _same_body(one: NetworkState, other: NetworkState) -> bool:
    leaves = [jax.tree.leaves([{g: tree[g] for g in tree if g != "head"} for tree in net[:2]]) for net in (one, other)]
    return all(a is b or bool(np.array_equal(a, b)) for a, b in zip(*leaves, strict=True))


def _caches(heads: Sequence[Head], index: int, ui: NullConsole) -> tuple[jax.Array, np.ndarray]:
    """Return the activations of all seeds one after the other, and the first row of each head's, int32 [heads]."""
    found: dict[int, np.ndarray] = {}
    seeds = [head.context.experiment.seed if head.context.plan.stages[index].copies else 0 for head in heads]
    for seed, head in zip(seeds, heads, strict=True):
        if seed not in found:
            p = head.context.plan.stages[index]
            found[seed] = activations(head.context, p, head.network, "train", p.copies, ui)
    places, ends = list(found), np.cumsum([0, *map(len, found.values())])
    rows = np.concatenate(list(found.values())) if len(found) > 1 else next(iter(found.values()))
    return heads[0].context.programs.devices.spread(rows), np.array([ends[places.index(seed)] for seed in seeds], np.int32)


@cache
def _program(network: Any, optimizer: Any, collects: tuple[str, ...], dtype: Any, accumulate: int, length: int) -> Callable[..., Any]:
    """Return the compiled span of updates of all heads; donates their states."""
    span = Span(Step(network, optimizer, ("head",), collects, dtype, accumulate), length)
    return jax.jit(jax.vmap(span, in_axes=(0, SpanRows(Hyper(0, 0, 0, 0), None, None), 0, 0, 0, 0)), donate_argnums=0)


def _validation(heads: Sequence[Head], p: StagePlan, ui: NullConsole) -> Callable[[TrainState], list[dict[str, Any]]] | None:
    """Return the validation of all heads at once; None without validation images."""
    context = heads[0].context
    if "valid" not in context.images:
        return None
    run, labels = context.programs, context.data.labels["valid"]
    valid = run.devices.spread(activations(context, p, heads[0].network, "valid", 0, ui))
    head = partial(forward, run.network, start="head", stop=None, dtype=run.dtype)
    predict = jax.jit(jax.vmap(head, in_axes=(0, 0, None), out_axes=1))

    def validate(state: TrainState) -> list[dict[str, Any]]:
        def logits(batch: Batch, _: Any) -> jax.Array:
            return predict(state.params, state.stats, run.rows(valid, run.devices.scatter(batch.index)))

        rows = run.map(logits, len(labels))
        return [dict(logit_metrics(rows[:, i], labels)) for i in range(len(heads))]

    return validate


def _first_state(heads: Sequence[Head], p: StagePlan) -> TrainState:
    def stacked(trees: Sequence[Tree]) -> Tree:
        return {"head": jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree["head"] for tree in trees))}

    params, stats = stacked([head.network.params for head in heads]), stacked([head.network.stats for head in heads])
    slots = jax.vmap(partial(optim.init, optim.kind(p.optimizer), p.trained))(params)
    return TrainState(jnp.zeros(len(heads), jnp.int32), params, stats, slots)


def _batches(feeds: Sequence[Iterator[Batch]], count: int, length: int) -> Batch:
    """Return the next `count` batches of all heads [heads, length, b], padded by repeating the last."""
    given = [list(islice(feed, count)) for feed in feeds]
    return Batch(
        *(
            np.stack([np.stack([getattr(b, name) for b in [*own, *[own[-1]] * (length - count)]]) for own in given])
            for name in Batch._fields
        )
    )


def _hyper(loops: Sequence[LoopPlan], fitted: Sequence[Fitted], start: int, count: int, length: int) -> Hyper:
    """Return the numbers of a span of all heads, each [heads, length, ...]; padded by repeating the last."""
    at = np.minimum(np.arange(start, start + length), start + count - 1)
    rows = Hyper(*(np.stack([getattr(loop.hyper, name)[at] for loop in loops]) for name in Hyper._fields))
    scale = np.array([fit.progress.lowered.scale for fit in fitted], rows.lr.dtype)
    return rows._replace(lr=scale[:, None, None] * rows.lr)


def _network(state: TrainState, i: int, before: NetworkState, size: int) -> NetworkState:
    """Return the network of head `i` in buffers of its own."""
    params, stats = jax.tree.map(lambda a: a[i], (state.params, state.stats))
    return NetworkState(before.params | params, before.stats | stats, size)
