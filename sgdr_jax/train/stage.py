"""A stage made ready to train: its update and its validation, closed over data and compiled programs."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# The trees of `Devices.scatter` have no static type.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.plan import StagePlan
from ..core.rng import key_for
from ..core.state import Hyper, NetworkState, TrainState
from ..data.sampler import Batch, example_weights
from ..evaluation.evaluate import logit_metrics
from . import batch_norm, optim, solve_head
from .context import RunContext
from .image_input import ImageInput
from .loop import LoopPlan
from .model_selection import Leeway, SelectionRules
from .multi_step import MOST, bounds, sections, span_length
from .programs import Programs
from .span import SpanRows
from .stage_inputs import TrainBatch, activations, augmentations, hyper_rows
from .steps import forward

SPAN_BYTES = 1 << 28
"""Memory on each device that the images or activations of a span may take; a few spans are under way at once."""


def loop_plan(context: RunContext, p: StagePlan, lr: tuple[float, ...]) -> LoopPlan:
    """Return the stage as the loop follows it, with the peak rate `lr` of each trained group."""
    experiment = context.experiment
    leeway = Leeway(experiment.leeway, len(context.data.labels.get("valid", ())) or 1)
    rules = SelectionRules(p.index, p.stage.patience, p.table.plateau, leeway)
    span, parts = span_of(context, p), sections(p.table.cycle, p.sizes)
    return LoopPlan(
        hyper_rows(context, p, lr), p.table.cycle, rules, span, experiment.checkpoint_steps, parts, keeps_best=experiment.keep_best
    )


class StageRun(NamedTuple):
    """A stage made ready to train.

    Attributes:
        state: state before the first update.
        update: as in `loop.StageCallbacks`, for up to `span` batches of one size.
        validate: as in `loop.StageCallbacks`.
        span: largest number of updates per dispatch.
    """

    state: TrainState
    update: Callable[[TrainState, Hyper, Sequence[TrainBatch]], tuple[TrainState, dict[str, Any]]]
    validate: Callable[[TrainState], dict[str, Any]] | None
    span: int


def first_state(programs: Programs, p: StagePlan, network: NetworkState) -> TrainState:
    """Return the state before the first update of a stage: the network with a fresh optimizer."""
    slots = programs.slots({g: network.params[g] for g in p.trained}, optimizer=optim.without_hyper(p.optimizer), trained=p.trained)
    return TrainState(jax.numpy.int32(0), network.params, network.stats, slots)


def open_stage(
    context: RunContext, p: StagePlan, network: NetworkState, ui: NullConsole, log: Callable[[dict[str, Any]], None] = lambda row: None
) -> StageRun:
    """Build the update and validation functions of a stage: images → pixels → frozen groups → trained groups.

    With `Stage.precompute` the input of the trained groups comes from the activation cache; with `Stage.solve` the only update replaces
    the head by the solution, and `log` receives how it was found.
    """
    programs, size = context.programs, p.size
    labels = context.data.labels["train"]
    weights = example_weights(labels, context.experiment.class_weights, context.data.rates, context.experiment.balance)
    augment, copies = augmentations(context, p), p.copies
    keys = {stream: key_for(context.experiment.seed, stream, p.index) for stream in ("augment", "dropout")}
    held_out = "valid" in context.images
    frozen = [{g: tree[g] for g in p.frozen} for tree in (network.params, network.stats)]
    cached = programs.devices.spread(activations(context, p, network, "train", copies, ui)) if p.stage.precompute else None
    valid = programs.devices.spread(activations(context, p, network, "valid", 0, ui)) if p.frozen and held_out else None
    span, resident = span_of(context, p), context.images["train"].resident

    def weighted_labels(batch: Batch, axis: int = 0) -> tuple[jax.Array, Any]:
        return programs.devices.scatter(_counted(batch, labels, weights, cached is None and ImageInput(augment, size).mixes), axis)

    def from_cache(batch: Batch, axis: int = 0) -> jax.Array:
        return programs.rows(cached, programs.devices.scatter(batch.draw if copies else batch.index, axis))

    def from_images(train_batch: TrainBatch, target: Any) -> tuple[jax.Array, Any]:
        index, draw = cast(tuple[jax.Array, jax.Array], programs.devices.scatter((train_batch.batch.index, train_batch.batch.draw)))
        images = programs.rows(resident, index) if train_batch.images is None else train_batch.images
        x, target = ImageInput(augment, train_batch.size)(programs, images, draw, target, keys["augment"], train_batch.strength)
        return programs.forward(*frozen, x, start=None, stop=p.start) if p.frozen else x, target

    def single_update(state: TrainState, hyper: Hyper, train_batch: TrainBatch) -> tuple[TrainState, dict[str, Any]]:
        weight, target = weighted_labels(train_batch.batch)
        x, target = from_images(train_batch, target) if cached is None else (from_cache(train_batch.batch), target)
        return programs.step(p)(state, hyper, x, target, weight, keys["dropout"])

    def from_frozen(batches: Sequence[TrainBatch]) -> tuple[jax.Array, Any]:
        inputs = [from_images(b, weighted_labels(b.batch)[1]) for b in batches]
        return programs.stack([*inputs, *[inputs[-1]] * (span - len(inputs))], rows=(span, p.batch_size))

    def update(state: TrainState, hyper: Hyper, batches: Sequence[TrainBatch]) -> tuple[TrainState, dict[str, Any]]:
        if span == 1:
            (train_batch,) = batches
            return single_update(state, Hyper(*(rows[0] for rows in hyper)), train_batch)
        batch = Batch(*(_padded(np.stack(column), span) for column in zip(*(b.batch for b in batches), strict=True)))
        hyper = Hyper(*(_padded(rows, span) for rows in hyper))
        strength, image_input, (weight, target) = None, None, weighted_labels(batch, axis=1)
        if cached is not None:
            x = from_cache(batch, axis=1)
        elif p.frozen:
            x, target = from_frozen(batches)
        else:
            image_input, strengths = ImageInput(augment, batches[0].size), [b.strength for b in batches]
            strength = None if strengths[0] is None else _padded(np.array(strengths, np.float32), span)
            index, draw = programs.devices.scatter((batch.index, batch.draw), axis=1)
            x = programs.rows(resident, index), draw
        return programs.step(p, span, image_input)(state, SpanRows(hyper, strength, np.int32(len(batches))), x, target, weight, keys)

    moving = [g for g in p.collects if g != "head"]  # how far their statistics are from those that the weights came with

    def validate(state: TrainState) -> dict[str, Any]:
        def logits(batch: Batch, x: jax.Array) -> jax.Array:
            if valid is None:
                return programs.predict(state.params, state.stats, programs.plain(x, size=size))
            return programs.predict(state.params, state.stats, programs.rows(valid, programs.devices.scatter(batch.index)), start=p.start)

        images = context.images["valid"]
        rows = programs.map(logits, len(images), images if valid is None else None)
        old_stats, new_stats = ({g: tree[g] for g in moving} for tree in (context.network.stats, state.stats))
        drift = {} if programs.rehearsing else batch_norm.drift(old_stats, new_stats)
        return logit_metrics(rows, context.data.labels["valid"]) | ({"drift": drift} if drift else {})

    if span > 1:
        ui.say(f"  up to {span} updates per dispatch")
    if p.stage.solve and cached is not None:
        update = solve_head.solver(context, p, cached, log, ui)
    return StageRun(programs.devices.hold(first_state(programs, p, network)), update, validate if held_out else None, span)


def _counted(batch: Batch, labels: np.ndarray, weights: np.ndarray, mixes: bool) -> tuple[np.ndarray, Any]:
    """Return the weight of each example of a batch, and its label; where images are mixed 1 or 0, and labels with weights."""
    weight, label = weights[batch.index], labels[batch.index]
    # Padding counts nothing as an example, but where it is mixed into one its label counts as any other.
    return (batch.weight, (label, weight)) if mixes else (batch.weight * weight, label)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Repeat the last row up to a number of rows."""
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])


def span_of(context: RunContext, p: StagePlan) -> int:
    """Return the largest number of updates per dispatch of a stage, see `Parallel.steps_per_execution`.

    Stages have the same one where possible, so that those that train the same groups share a program, a refit's among them.
    """
    if p.stage.solve:
        return 1
    often, count = context.experiment.checkpoint_steps, context.programs.devices.count
    share = p.batch_size // count
    if not p.frozen:
        splits_pairs = count > 1 and share % 2 and any(a.does("mix") for a in augmentations(context, p))
        if context.images["train"].resident is None or splits_pairs:  # a device has no access to the neighbour that an image is mixed with
            return 1

    def between(p: StagePlan) -> list[int]:
        return np.diff(bounds(sections(p.table.cycle, p.sizes), often)).tolist()

    if wanted := context.experiment.parallel.steps_per_execution:
        return min(wanted, max(between(p)))
    # On CPU a convolution that trains is many times slower within a loop.
    if jax.default_backend() == "cpu" and p.trained != ("head",):
        return 1
    most = max(min(SPAN_BYTES // (share * row_bytes(context, p)), MOST), 1)
    trained = (other for other in context.span_stages if not other.stage.solve)
    return span_length(chain.from_iterable(map(between, trained)), most)


def row_bytes(context: RunContext, p: StagePlan) -> int:
    """Return the bytes of an example as a span holds it: of its stored image, or of its activations below the trained groups."""
    programs, image = context.programs, context.images["train"].pixels.shape[1:]
    if not p.frozen:
        return math.prod(image)
    pixels = jax.ShapeDtypeStruct((1, p.size, p.size, image[-1]), np.float32)
    body = partial(forward, programs.network, start=None, stop=p.start, dtype=programs.dtype)
    row = jax.eval_shape(body, context.network.params, context.network.stats, pixels)
    return row.size * row.dtype.itemsize


def cached_logits(context: RunContext, network: NetworkState, split: str, ui: NullConsole) -> np.ndarray | None:
    """Return the plain view's logits [n, classes] from cached activations; None if there are none at this size, or too many to cache.

    If the stage that trains the lowest groups used cached activations, the body below is unchanged, and all runs with this body share the
    activations of held-out images too: of many heads over one body, as in a sweep, only the first reads the images.
    """
    lowest = min(context.plan.stages, key=lambda p: p.groups.index(p.start))
    n, kept = len(context.images[split]), max(lowest.copies, 1) * len(context.images["train"])
    if not (lowest.stage.precompute and lowest.size == network.size and n <= 4 * kept):  # files no larger than the stage asked for
        return None
    programs = context.programs
    cached = programs.devices.spread(activations(context, lowest, network, split, 0, ui))

    def logits(batch: Batch, _: Any) -> jax.Array:
        x = programs.rows(cached, programs.devices.scatter(batch.index))
        return programs.predict(network.params, network.stats, x, start=lowest.start)

    return programs.map(logits, n)
