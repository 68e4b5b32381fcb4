"""Inputs of a stage's updates: batches of images, cached activations, and the numbers of every update."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# The trees of `Devices.scatter` have no static type.

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.plan import StagePlan
from ..core.rng import key_for
from ..core.state import Hyper, NetworkState
from ..core.types import Augmentation
from ..data.sampler import Batch, Sampler, repeated
from ..distributed.hosts import all_hosts
from . import activation_cache
from .context import RunContext


def hyper_rows(context: RunContext, p: StagePlan, peaks: tuple[float, ...]) -> Hyper:
    """Return the numbers of every update of a stage: lr [steps, trained groups], the others [steps].

    Args:
        peaks: peak rate of each trained group.
    """
    lr = p.scale * np.asarray(peaks)[None, :]
    smoothing = np.full(p.steps, context.experiment.label_smoothing)
    return Hyper(*(np.asarray(rows, context.programs.precision) for rows in (lr, p.momentum, p.weight_decay, smoothing)))


class TrainBatch(NamedTuple):
    """A training batch.

    Attributes:
        batch: the examples.
        images: their images, on the devices; None where resident ones are not asked for, or activations are cached.
        size: side in pixels that the network sees.
        strength: strength of the augmentations, float32; None for 1.
    """

    batch: Batch
    images: jax.Array | None
    size: int
    strength: np.float32 | None


def strength_at(p: StagePlan, step: int) -> np.float32 | None:
    """Return the strength of the augmentations at an update: None for 1, or a value between the first and the last.

    After the last update, where only the finder goes, it stays.
    """
    ends = p.stage.strength
    if ends == 1:
        return None
    first, last = ends if isinstance(ends, tuple) else (ends, ends)
    share = min(step, p.steps - 1) / max((p.table.whole or p.steps) - 1, 1)
    return np.float32(first + (last - first) * share)


def stage_batches(
    context: RunContext, p: StagePlan, first: int, stop: int, order: int = 0, *, with_images: bool = True
) -> Iterator[TrainBatch]:
    """Yield the training batches of updates first … stop - 1 of a stage, with their images unless activations are cached.

    Args:
        order: number of the order of the images: 0 is that of the training, and the first of the learning-rate finder's.
        with_images: False leaves resident images where they are, for `StageRun.update` to fetch.
    """
    times = p.stage.repeats
    experiment, data = context.experiment, context.data
    sampler = Sampler(experiment.seed, p.index + (order << 16), data.labels["train"], experiment.balance, data.rates)
    batches = sampler.batches(p.batch_size, -(-stop // times), first // times, p.copies)
    batches = repeated(batches, times, first) if times > 1 else batches
    loader = context.images["train"]
    bare = p.stage.precompute or not (with_images or loader.resident is None)
    fed = ((batch, None) for batch in batches) if bare else loader.batches(batches)
    for step, (batch, images) in zip(range(first, stop), fed, strict=False):  # `repeated` may go on beyond the stop
        yield TrainBatch(batch, images, int(p.sizes[min(step, p.steps - 1)]), strength_at(p, step))


def augmentations(context: RunContext, p: StagePlan) -> tuple[Augmentation, ...]:
    """Return the augmentations that a stage trains with; () for none."""
    return context.experiment.augment if p.stage.augment else ()


def activations(context: RunContext, p: StagePlan, network: NetworkState, split: str, copies: int, ui: NullConsole) -> np.ndarray:
    """Return the input of a stage's lowest trained group for a whole split, from the cache if possible.

    Args:
        network: the network at the start of the stage; only its frozen groups matter.
        split: name of the split.
        copies: number of augmented copies of each image; 0 for the plain images.

    Returns:
        float array [max(copies, 1) · n, ...]; row v·n + i is copy v of image i.
    """
    programs, n = context.programs, len(context.images[split])
    body = [{g: tree[g] for g in p.frozen} for tree in (network.params, network.stats)]
    augment = augmentations(context, p) if copies else ()
    key = key_for(context.experiment.seed, "augment", p.index)
    strength = None if p.stage.strength == 1 else np.asarray(p.stage.strength, np.float32)

    def rows(batch: Batch, x: jax.Array) -> jax.Array:
        if copies:
            pixels = programs.augmented(x, programs.devices.scatter(batch.draw), key, strength, augmentations=augment, size=p.size)
        else:
            pixels = programs.plain(x, size=p.size)
        return programs.forward(*body, pixels, start=None, stop=p.start)

    def compute() -> np.ndarray:
        with ui.bar(f"activations of {split}", n * max(copies, 1)) as tick:
            return programs.map(rows, n * max(copies, 1), context.images[split], tick)

    if programs.rehearsing:
        return compute()
    entry = activation_cache.ActivationKey(
        images=context.data.digests[split],
        split=split,
        body=body,
        model=context.experiment.model,
        normalisation=(programs.network.mean.tolist(), programs.network.std.tolist()),
        plain=programs.network.plain,
        start=p.start,
        size=p.size,
        dtype=programs.dtype,
        augmentations=augment,
        views=copies,
        draw=(context.experiment.seed, p.index, p.stage.strength) if copies else (),
    )
    name = entry.digest()
    array, was_cached = activation_cache.cached(name, compute, all_hosts=all_hosts)
    if was_cached:
        ui.say(f"  activations of {split} found in the cache ({name})")
    return array
