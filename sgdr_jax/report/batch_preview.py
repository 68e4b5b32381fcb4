"""What a stage would see: a few training images, plain, as its first updates augment them, and as test-time views."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..augment import kernel
from ..core.experiment import Experiment
from ..core.plan import plan
from ..core.rng import key_for
from ..core.validation import require
from ..data.load import canvas_side, load_some
from ..data.sampler import Sampler
from ..evaluation import tta

UPDATES = 4
"""Draws of the training augmentations that are shown."""


class Sheet(NamedTuple):
    """Pictures in rows and columns.

    Attributes:
        titles: of the columns.
        tiles: float32 0…1 [rows, columns, size, size, c].
        captions: one text for each tile, "" for none.
        bad: (name, reason) of images that cannot be read and so have no row.
    """

    titles: tuple[str, ...]
    tiles: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    bad: tuple[tuple[str, str], ...] = ()


def sheet(experiment: Experiment, stage: int = 0, count: int = 8) -> Sheet:
    """The first `count` training images of a stage with their labels: plain, in draws of its augmentations, and as test-time views.

    The first draw is what the stage's first update sees, if it trains on fresh augmentation. Only these images are decoded.
    Raises InputError for a stage that there is not, or data that cannot be read.
    """
    stages = experiment.stages
    require(0 <= stage < len(stages), "--stage", stage, f"the stages are {', '.join(f'{i} ({s.name})' for i, s in enumerate(stages))}")
    require(1 <= count <= 64, "--count", count, "use 1…64")
    source = experiment.data.open()
    made = plan(experiment, source.sizes["train"])
    # As many again stand in for some that cannot be read.
    sampler = Sampler(experiment.seed, stage, source.labels["train"], experiment.balance, source.rates)
    index = sampler.order(0)[: 2 * count].tolist()
    data, size = load_some(source, index, canvas_side(experiment.canvas, made.largest_size)), int(made.stages[stage].sizes[0])
    images, labels = jnp.asarray(data.images["some"][:count]), data.labels["some"][:count]
    names = [_names(data.classes, label) for label in labels]
    batch_size, strength = stages[stage].batch_size or experiment.batch_size, stages[stage].strength
    first = float(strength[0] if isinstance(strength, tuple) else strength)
    augment = experiment.augment if stages[stage].augment else ()

    key, place = key_for(experiment.seed, "augment", stage), jnp.arange(len(images), dtype=jnp.uint32)
    titles, columns, captions = ["plain"], [kernel.resize(images, size)], [names]

    @jax.jit
    def drawn(draw: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = kernel.augment(images, draw, key, augment, size, first)
        return kernel.mix(pixels, draw, key, augment, first)

    others = np.asarray(kernel.neighbours(jnp.arange(len(images), dtype=jnp.int32)))
    for update in range(UPDATES if augment else 0):
        pixels, share = drawn(place + jnp.uint32(update * batch_size))
        titles.append(f"draw {update + 1}")
        columns.append(pixels)
        captions.append([_mixture(float(s), names[i], names[j]) for i, (s, j) in enumerate(zip(share, others, strict=True))])
    how = experiment.evaluate
    for v in range(1, min(tta.view_count(how, experiment.augment), UPDATES + 1)):
        titles.append(f"TTA view {v}")
        fixed = {"augmentations": experiment.augment, "size": size, "kind": how.tta_kind}
        columns.append(tta.view(images, place, key_for(experiment.seed, "tta"), v, **fixed))
        captions.append(names)
    return Sheet(tuple(titles), np.stack([np.asarray(column) for column in columns], 1), tuple(zip(*captions, strict=True)), data.bad)


def _names(classes: tuple[str, ...], label: np.ndarray) -> str:
    return ", ".join(classes[i] for i in np.flatnonzero(label)) if np.ndim(label) else classes[int(label)]


def _mixture(share: float, own: str, other: str) -> str:
    """ "0.70 cat + 0.30 dog", or the own name alone where nothing is mixed in."""
    return own if share > 0.995 else f"{share:.2f} {own} + {1 - share:.2f} {other}"
