"""Preview of a stage's input: a few training images, plain, as its first updates augment them, and as test-time views."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..augment import kernel
from ..core.experiment import Experiment
from ..core.plan import plan
from ..core.rng import key_for
from ..core.validation import require, whole
from ..data.load import SOME, canvas_side, load_some
from ..data.sampler import Sampler
from ..evaluation import tta
from ..models.pretrained.load import plain_view
from ..train.stage_inputs import strength_at

UPDATES = 4
"""Number of draws of the training augmentations to show."""


class BatchPreview(NamedTuple):
    """Images in rows and columns.

    Attributes:
        titles: of the columns.
        tiles: float32 0…1 [rows, columns, size, size, c].
        captions: of the tiles, "" for none.
        bad: (name, reason) of unreadable images, which have no row.
    """

    titles: tuple[str, ...]
    tiles: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    bad: tuple[tuple[str, str], ...] = ()


def preview_batch(experiment: Experiment, stage: int | str = 0, count: int = 8) -> BatchPreview:
    """Render the first `count` training images of a stage with their labels: plain, in draws of its augmentations, and as TTA views.

    The first draw is the input of the stage's first update, unless it trains on cached activations. Only these images are decoded.

    Raises:
        InputError: if the stage does not exist or the data cannot be read.
    """
    stage = experiment.stage_index(stage)
    require(whole(count) and 1 <= count <= 64, "count", count, "use 1…64")
    source = experiment.data.open()
    p = plan(experiment, source.sizes["train"]).stages[stage]
    # Twice as many, to replace unreadable ones.
    sampler = Sampler(experiment.seed, stage, source.labels["train"], experiment.balance, source.rates)
    index = sampler.order(0)[: 2 * count].tolist()
    side = canvas_side(experiment.canvas, experiment.largest_size)
    data, size, first = load_some(source, index, side, resize=experiment.resize), int(p.sizes[0]), strength_at(p, 0)
    strength = 1.0 if first is None else float(first)
    images, labels = jnp.asarray(data.images[SOME][:count]), data.labels[SOME][:count]
    names = [_names(data.classes, label) for label in labels]
    augment, plain = (experiment.augment if p.stage.augment else ()), plain_view(experiment.model)

    key, place = key_for(experiment.seed, "augment", stage), jnp.arange(len(images), dtype=jnp.uint32)
    titles, columns, captions = ["plain"], [kernel.resize(images, size, plain)], [names]

    @jax.jit
    def drawn(draw: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = kernel.augment(images, draw, key, augment, size, strength, plain)
        return kernel.mix(pixels, draw, key, augment, strength)

    others = np.asarray(kernel.neighbours(jnp.arange(len(images), dtype=jnp.int32)))
    for update in range(UPDATES if augment else 0):
        pixels, share = drawn(place + jnp.uint32(update * p.batch_size))
        titles.append(f"draw {update + 1}")
        columns.append(pixels)
        captions.append([_mixture(float(s), names[i], names[j]) for i, (s, j) in enumerate(zip(share, others, strict=True))])
    options = experiment.evaluate
    for v in range(1, min(tta.view_count(options, experiment.augment), UPDATES + 1)):
        titles.append(f"TTA view {v}")
        key = key_for(experiment.seed, "tta")
        columns.append(tta.view(images, place, key, v, augmentations=experiment.augment, size=size, kind=options.tta_kind, plain=plain))
        captions.append(names)
    return BatchPreview(
        tuple(titles), np.stack([np.asarray(column) for column in columns], 1), tuple(zip(*captions, strict=True)), data.bad
    )


def _names(classes: tuple[str, ...], label: np.ndarray) -> str:
    return ", ".join(classes[i] for i in np.flatnonzero(label)) if np.ndim(label) else classes[int(label)]


def _mixture(share: float, own: str, other: str) -> str:
    """Format a mixture as "0.70 cat + 0.30 dog", or as the own name if nothing is mixed in."""
    return own if share > 0.995 else f"{share:.2f} {own} + {1 - share:.2f} {other}"
