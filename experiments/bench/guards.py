"""What verification and guards cost: CPU seconds of all threads with and without them, in alternation.

    python experiments/bench/guards.py [--pairs 25]

* What an optimizer does in an update of ResNet-18 and of EfficientNet-Lite0 (all layers, SGD, and AdamW with clipping), applied only if
  it is finite, or in any case, in eight times as many pairs; as a share of whole updates of 16 images of 64, 96 and 128 px.
* 512 cached images of 128 px read in batches of 16, their digests compared or not.
* 64 MiB of cached activations read, their digests compared or not.

Prints a table of medians and of the median difference over pairs; for images and activations the share that counts is of the training
that reads them, so the difference is given for each of them, too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdr_jax import AdamW, Sgd, models
from sgdr_jax.core import sealed
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.optimizers import Optimizer
from sgdr_jax.core.state import Hyper, TrainState, Tree
from sgdr_jax.data import pixels
from sgdr_jax.distributed.mesh import compute_dtype, devices
from sgdr_jax.train import guard, optim, reductions, steps

type Work = Callable[[], object]


class Cost(NamedTuple):
    """CPU seconds of a unit with the check, without it, and the median difference of pairs."""

    checked: float
    plain: float
    more: float


def cost(units: int, checked: Work, plain: Work, pairs: int) -> Cost:
    """Measure both in alternation."""

    def spent(work: Work) -> float:
        before = time.process_time()
        work()
        return (time.process_time() - before) / units

    checked()
    plain()
    found = []
    for i in range(pairs):
        first, second = spent(plain if i % 2 else checked), spent(checked if i % 2 else plain)
        found.append((second, first) if i % 2 else (first, second))
    one, other = (statistics.median(pair[k] for pair in found) for k in (0, 1))
    return Cost(one, other, statistics.median(a - b for a, b in found))


def row(title: str, unit: str, of: Cost, whole: float | None = None) -> None:
    """Print a cost and its share of `whole` seconds, or of the unit without the check."""
    figures = f"{1e6 * of.checked:,.1f} µs checked, {1e6 * of.plain:,.1f} µs not"
    share = f"{of.more / (whole or of.plain):.1%}" + (f" of {1e3 * whole:.0f} ms" if whole else "")
    print(f"| {title} | {figures}, median difference {1e6 * of.more:,.1f} µs of each {unit} | {share} |", flush=True)


def updates(name: str, optimizer: Optimizer, pairs: int) -> None:
    """Print what the guard adds to what an optimizer does, by itself, as a share of whole updates of several sizes.

    Whole updates scatter by more than the guard takes.
    """
    mesh, batch = devices(Parallel(1)), 16
    network = getattr(models, name)(weights=None, head="classifier").build(10)
    groups = network.groups
    params, stats = mesh.hold(network.init(jax.random.key(0)))
    hyper = mesh.replicate(Hyper(jnp.full(len(groups), 1e-4), jnp.float32(0.9), jnp.float32(0), jnp.float32(0)))

    def work(guarded: bool) -> Work:
        def update(before: guard.Trained, grads: Tree, stats: Tree, hyper: Hyper) -> guard.Trained:
            norm = reductions.global_norm(grads)
            update = partial(optim.update, optimizer, groups, hyper, grads, norm=norm)
            if guarded:
                return guard.apply_if_finite(update, stats, before, norm, True, guard.is_moderate(norm, hyper))[0]
            return guard.Trained(*update(before.opt_state, before.params), stats)

        compiled = jax.jit(update, donate_argnums=0)
        before = guard.Trained(*jax.tree.map(jnp.array, (params, optim.init(optimizer, groups, params), stats)))

        def work() -> None:
            nonlocal before
            before = jax.block_until_ready(compiled(before, params, stats, hyper))

        return work

    whole = {}
    for side in (64, 96, 128):
        state = mesh.hold(TrainState(jnp.int32(0), *jax.tree.map(jnp.array, (params, stats, optim.init(optimizer, groups, params)))))
        step = mesh.compile_step(steps.TrainStep(network, optimizer, groups, groups, compute_dtype("auto")))
        images = jnp.asarray(np.random.default_rng(0).random((batch, side, side, 3)), jnp.float32)
        rest = mesh.replicate((images, jnp.arange(batch, dtype=jnp.int32) % 10, jnp.ones(batch), jax.random.key(1)))
        times = []
        for _ in range(9):
            start = time.process_time()
            state, _ = jax.block_until_ready(step(state, hyper, *rest))
            times.append(time.process_time() - start)
        whole[side] = statistics.median(times[1:])  # the first compiles
    found = cost(1, work(True), work(False), 8 * pairs)  # an update is short, and its times scatter
    for side, seconds in whole.items():
        row(f"an update of {name} by {optimizer}, 16 images of {side} px", "update", found, seconds)


def images(folder: Path, verified: bool) -> Work:
    """Return the reading of an epoch of cached images."""
    pictures = np.random.default_rng(0).integers(0, 256, (512, 128, 128, 3), np.uint8)
    pictures.tofile(folder / "pixels")
    digests = np.array([pixels.digest(picture) if verified else 0 for picture in pictures], np.uint64)
    none = pixels.EncodedImages(lambda i: b"", [""] * 512, [""] * 512)
    stored = pixels.StoredPixels(folder / "pixels", pictures.shape, digests, none)
    batches = np.random.default_rng(0).permutation(512).reshape(-1, 16)
    return lambda: [stored[batch] for batch in batches]


def activations(folder: Path, verified: bool) -> Work:
    """Return the reading of a file of activations."""
    path, array = folder / "activations", np.random.default_rng(0).random((32_768, 512), np.float32)
    with path.open("wb") as file:
        sealed.write(file, "bench", array)
    if verified:
        return lambda: sealed.read(path, "bench")
    return lambda: np.fromfile(path, np.float32, array.size).reshape(array.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=25)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("ResNet18", "EfficientNetLite0"):
            for optimizer in (Sgd(), AdamW(clip=1.0)):
                updates(name, optimizer, pairs)
        row("cached images of 128 px", "image", cost(512, images(folder, True), images(folder, False), pairs))
        row("cached activations of 512 channels", "image", cost(32_768, activations(folder, True), activations(folder, False), pairs))


if __name__ == "__main__":
    main()
