"""The compiled programs of one experiment: pixels, parts of the network, whole-split prediction. Each compiles once per shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import metrics, steps, tta
from .augment import kernel
from .config import Experiment
from .mesh import Devices, compute_dtype, devices
from .models.chain import Network
from .pipeline import eval_batches
from .plan import StagePlan
from .state import Tree
from .types import Augmentation

Tick = Callable[[int], None]
"""Told how many examples have been done, for progress bars."""


@dataclass(frozen=True)
class Engine:
    """One network on the devices of a run.

    Attributes:
        network: the chain of layer groups.
        devices: where it runs.
        dtype: of the network's arithmetic.
        batch_size: examples per evaluation step.
        forward: compiled (params, stats, x, start=, stop=) → activations or logits.
        augmented: compiled (images uint8 [n, s, s, c], index [b], draw [b], key, strength, augmentations=, size=) →
            float32 [b, size, size, c]; strength None is 1.
        mixed: compiled (pixels [b, size, size, c], labels [b, ...], draw [b], key, strength, augmentations=) → (pixels, `metrics.Mixed`).
        plain: compiled (images, index, size=) → float32 [b, size, size, c].
        view: compiled (images, ids uint32 [n], index, key, v, kind=, augmentations=, size=) → test-time view v, float32 [b, size, size, c].
        rows: compiled (array [n, ...], index [b]) → rows of a resident array [b, ...].
    """

    network: Network
    devices: Devices
    dtype: Any
    batch_size: int
    forward: Callable[..., jax.Array]
    augmented: Callable[..., jax.Array]
    mixed: Callable[..., tuple[jax.Array, metrics.Mixed]]
    plain: Callable[..., jax.Array]
    view: Callable[..., jax.Array]
    rows: Callable[..., jax.Array]

    def step(self, p: StagePlan) -> Callable[..., Any]:
        """The compiled training update of a stage; donates its state."""
        return self.devices.compile_step(steps.Step(self.network, p.optimizer, p.trained, p.collects, self.dtype))

    def predict(self, params: Tree, stats: Tree, x: jax.Array, start: str | None = None) -> jax.Array:
        """Logits [b, classes] from what enters the group `start`; the body runs as the same program that caches activations."""
        if start != "head":
            x = self.forward(params, stats, x, start=start, stop="head")
        return self.forward(params, stats, x, start="head", stop=None)

    def map(self, function: Callable[[jax.Array, jax.Array], jax.Array], n: int, tick: Tick | None = None) -> np.ndarray:
        """`function(index [b], draw [b]) → rows` over n examples in padded batches; host array of n rows, each example once."""
        out, done = [], []
        for batch in eval_batches(n, self.batch_size):
            out.append(function(*self.devices.scatter((batch.index, batch.draw))))
            done.append(int(batch.weight.sum()))
            if len(out) > 2:  # fetched two batches late, so that the device never waits for the host
                out[-3] = np.asarray(out[-3])
            if tick:
                tick(done[-1])
        return np.concatenate([np.asarray(rows)[:k] for rows, k in zip(out, done, strict=True)])


def engine(experiment: Experiment, network: Network) -> Engine:
    """The engine of an experiment. Raises InputError when a batch size does not fit the devices."""
    mesh = devices(experiment.parallel)
    mesh.check_batch("evaluate.batch_size", experiment.evaluate.batch_size)
    for name, size in [("batch_size", experiment.batch_size)] + [
        (f'stage "{s.name}": batch_size', s.batch_size) for s in experiment.stages if s.batch_size
    ]:
        mesh.check_batch(name, size)
    dtype = compute_dtype(experiment.compute)

    def rows(array: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.take(array, index, axis=0, mode="clip")

    def augmented(
        images: jax.Array,
        index: jax.Array,
        draw: jax.Array,
        key: jax.Array,
        strength: jax.Array | None,
        augmentations: tuple[Augmentation, ...],
        size: int,
    ) -> jax.Array:
        return kernel.augment(rows(images, index), draw, key, augmentations, size, 1.0 if strength is None else strength)

    def mixed(
        pixels: jax.Array,
        labels: jax.Array,
        draw: jax.Array,
        key: jax.Array,
        strength: jax.Array | None,
        augmentations: tuple[Augmentation, ...],
    ) -> tuple[jax.Array, metrics.Mixed]:
        pixels, share = kernel.mix(pixels, draw, key, augmentations, 1.0 if strength is None else strength)
        return pixels, metrics.Mixed(labels, kernel.neighbours(labels), share)

    def plain(images: jax.Array, index: jax.Array, size: int) -> jax.Array:
        return kernel.resize(rows(images, index), size)

    def view(images: jax.Array, ids: jax.Array, index: jax.Array, key: jax.Array, v: jax.Array, **how: Any) -> jax.Array:
        return tta.view(rows(images, index), rows(ids, index), key, v, **how)

    return Engine(
        network=network,
        devices=mesh,
        dtype=dtype,
        batch_size=experiment.evaluate.batch_size,
        forward=mesh.compile_map(partial(steps.forward, network, dtype=dtype), static_argnames=("start", "stop")),
        augmented=mesh.compile_map(augmented, static_argnames=("augmentations", "size")),
        mixed=mesh.compile_map(mixed, static_argnames=("augmentations",)),
        plain=mesh.compile_map(plain, static_argnames=("size",)),
        view=mesh.compile_map(view, static_argnames=("kind", "augmentations", "size")),
        rows=mesh.compile_map(rows),
    )
