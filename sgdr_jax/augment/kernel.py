"""Executes augmentations: one resampling for all geometry, then colour maps composed to one multiply, curves, and changes of pixels.

Geometry composes to one 3×3 matrix per example, so that an image is interpolated once, whatever the number of augmentations; this
includes the resize from the stored canvas. Images are mirrored at their borders (the edge pixel doubled), as in fastai 0.7, unless the
set holds a `Border`.

All functions are pure, to be called under `jax.jit` with `augmentations` and `size` static and the strength traced. Arrays are split over
examples only, so a batch that is distributed over devices stays in place. The arithmetic uses the default float of JAX, float32 unless
JAX_ENABLE_X64 is set; the draws are the same for both.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8, UInt32

from ..core.types import Augmentation
from ..core.validation import require
from . import gather_free, resampling
from .affine import Border
from .arithmetic import channel_means
from .choice import AugMix, Slot
from .plain import WHOLE, PlainView
from .resampling import symmetry

_METHODS = ("matrix", "bend", "colour", "curve", "pixels", "mix")


class _Step(NamedTuple):
    """One augmentation, or a part of it, with its draws and strength for the whole batch."""

    augmentation: Augmentation
    applies: Bool[Array, " b"]
    u: Float[Array, "b draws"]
    s: float | Float[Array, ""]

    def call(self, method: str, *inputs: Array) -> Any:
        """Return the method's result for each example, an array [b, ...] or a pair of them."""
        return jax.vmap(lambda u, *x: getattr(self.augmentation, method)(u, self.s, *x))(self.u, *inputs)

    def where(self, changed: Array, unchanged: Array) -> Array:
        """Return `changed` for the examples that the augmentation applies to, `unchanged` for the others."""
        return jnp.where(self.applies.reshape(-1, *(1,) * (changed.ndim - 1)), changed, unchanged)


def augment(
    images: UInt8[Array, "b S S c"],
    seeds: UInt32[Array, " b"],
    key: Key[Array, ""],
    augmentations: Sequence[Augmentation],
    size: int,
    strength: float | Float[Array, ""] | Float[Array, " augmentations"] = 1.0,
    plain: PlainView = WHOLE,
) -> Float[Array, "b {size} {size} c"]:
    """Augment images; example i depends on `key`, `seeds[i]` and its own pixels alone, not on the rest of the batch.

    All uniform numbers of an example are one vector drawn from `fold_in(key, seeds[i])`: for each augmentation in order one that decides
    whether it applies, then its `draws`. Appending an augmentation therefore preserves the draws of the earlier ones. Geometry comes first
    (composed in order, bends of the view last), then everything else in order; adjacent colour maps are composed and their result
    clipped to 0…1. Without geometry the pixels are those of `resize`; symmetries of the square alone move them without interpolation.
    Other geometry is relative to the part of the image that `plain` crops, and interpolates bilinearly.
    Augmentations that mix images are ignored; see `mix`.

    Args:
        images: the stored canvases.
        seeds: one for each image.
        key: key of the step.
        augmentations: the set, in order.
        size: side of the result in pixels.
        strength: scales the magnitudes, one for all augmentations or one for each; 0 is the plain image.
        plain: how the plain image is made.

    Returns:
        Images in 0…1, float32.

    Raises:
        InputError: an augmentation has no probability `p` or none of the methods of `Augmentation`.
    """
    steps = [step for step in _draw(seeds, key, augmentations, strength) if not step.augmentation.does("mix")]
    border = next((a for a in reversed(augmentations) if isinstance(a, Border)), resampling.MIRRORED)
    mixers = [(i, step.augmentation) for i, step in enumerate(steps) if isinstance(step.augmentation, AugMix)]
    require(len(mixers) <= 1, "augment", len(mixers), "use AugMix once at most")
    if not mixers:
        return _render(images, [part for step in steps for part in _parts(step)], size, border, plain)
    ((at, mixer),) = mixers
    before, mixing, after = steps[:at], steps[at], steps[at + 1 :]
    weights = mixing.where(mixing.call("weights"), jnp.eye(1, 1 + mixer.width, dtype=float))
    total = jnp.zeros((), float)
    for k, chain in enumerate(mixer.branches):
        parts = [part for step in before for part in _parts(step)]
        parts += [mixing._replace(augmentation=slot) for slot in chain] + [part for step in after for part in _parts(step)]
        total = total + weights[:, k, None, None, None] * _render(images, parts, size, border, plain)
    return total


def mix(
    images: Float[Array, "b s s c"],
    seeds: UInt32[Array, " b"],
    key: Key[Array, ""],
    augmentations: Sequence[Augmentation],
    strength: float | Float[Array, ""] | Float[Array, " augmentations"] = 1.0,
) -> tuple[Float[Array, "b s s c"], Float[Array, " b"]]:
    """Blend images with their neighbours in the batch (0 with 1, 2 with 3, …).

    Continues `augment` with the same seeds and key. Neighbours are on the same device if every device holds an even number of examples;
    the last one of an odd batch is its own neighbour.

    Returns:
        The images, and the share of its own label that each one keeps.

    Raises:
        InputError: more than one augmentation mixes images.
    """
    steps = [step for step in _draw(seeds, key, augmentations, strength) if step.augmentation.does("mix")]
    require(len(steps) <= 1, "augment", [type(step.augmentation).__name__ for step in steps], "use MixUp or CutMix once, not both")
    share = jnp.ones(len(images), float)
    if not steps:
        return images, share
    (step,) = steps
    mixed, kept = step.call("mix", images, neighbours(images))
    return step.where(mixed, images), step.where(kept, share)


def neighbours(values: Array) -> Array:
    """Return rows 1, 0, 3, 2, …; the last row of an odd number stays in place."""
    pairs = len(values) // 2
    swapped = values[: 2 * pairs].reshape(pairs, 2, *values.shape[1:])[:, ::-1].reshape(2 * pairs, *values.shape[1:])
    return jnp.concatenate([swapped, values[2 * pairs :]]) if len(values) % 2 else swapped


# ---- descriptions to numbers ----


def _draw(seeds: Array, key: Array, augmentations: Sequence[Augmentation], strength: float | Array) -> list[_Step]:
    """Draw the uniform numbers of every augmentation, and decide which examples it applies to."""
    for a in augmentations:
        known = any(a.does(method) for method in _METHODS) or isinstance(a, Border | AugMix) or a.parts != (a,)
        require(known, type(a).__name__, a, f"give it one of the methods {', '.join(_METHODS)}")
        require(hasattr(a, "p"), type(a).__name__, a, "give it a field p, its probability")
    ends = np.cumsum([1 + a.draws for a in augmentations], dtype=int).tolist()
    if not ends:
        return []
    # The bits of element i do not depend on the length of the vector (jax_threefry_partitionable, the default).
    u = jax.vmap(lambda seed: jax.random.uniform(jax.random.fold_in(key, seed), (ends[-1],), jnp.float32))(seeds).astype(float)
    parts = [u[:, start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    each = [strength] * len(ends) if isinstance(strength, int | float) else jnp.broadcast_to(strength, (len(ends),))
    return [_Step(a, a.applies(part[:, 0], s), part[:, 1:], s) for a, part, s in zip(augmentations, parts, each, strict=True)]


def _parts(step: _Step) -> list[_Step]:
    return [step._replace(augmentation=part) for part in step.augmentation.parts]


# ---- how pixels are fetched ----


def resize(images: UInt8[Array, "b S S c"], size: int, plain: PlainView = WHOLE) -> Float[Array, "b {size} {size} c"]:
    """Resize to `size` as `resampling.resize` does, on a TPU without gathers."""
    return (gather_free if jax.default_backend() == "tpu" else resampling).resize(images, size, plain)


def resample(
    images: UInt8[Array, "b S S c"],
    matrices: Float[Array, "b 3 3"],
    size: int,
    scales: tuple[float, float],
    border: Border = resampling.MIRRORED,
    reach: Callable[[], tuple[float, float] | None] = lambda: (0.0, 0.0),
) -> Float[Array, "b {size} {size} c"]:
    """Resample as `resampling.resample` does, on a TPU without gathers where `reach` has bounds for `gather_free.resample`."""
    bounds = reach() if jax.default_backend() == "tpu" else None
    if bounds is None:
        return resampling.resample(images, matrices, size, scales, border)
    return gather_free.resample(images, matrices, size, bounds, border)


# ---- numbers to pixels ----


def _render(images: Array, steps: list[_Step], size: int, border: Border, plain: PlainView) -> Array:
    """Apply geometry, then colour, curves and pixels in order."""
    geometry = [step for step in steps if step.augmentation.does("matrix")]
    bends = [step for step in steps if step.augmentation.does("bend")]
    out = _geometry(images, geometry, bends, size, border, plain)
    # Without the barrier each later use of the images recomputes them.
    out = jax.lax.optimization_barrier(out)
    colours: list[_Step] = []
    for step in steps:
        if step.augmentation.does("colour"):
            colours.append(step)
        if colours and (step.augmentation.does("curve") or step.augmentation.does("pixels")):
            out, colours = jax.lax.optimization_barrier(_colours(out, colours)), []
        if step.augmentation.does("curve"):
            out = _curve(out, step)
        if step.augmentation.does("pixels"):
            out = step.where(step.call("pixels", out), out)
    return _colours(out, colours) if colours else out


def _geometry(images: Array, steps: list[_Step], bends: list[_Step], size: int, border: Border, plain: PlainView) -> Array:
    """Resample the images through the composed map of coordinates."""
    if bends:
        matrices = _compose(steps) if steps else jnp.broadcast_to(jnp.eye(3, dtype=float), (len(images), 3, 3))
        field = functools.reduce(jnp.add, [_bend(step, size) for step in bends])
        matrices, scales = cropped(matrices, _scales(steps), plain.crop)
        return resampling.resample(images, matrices, size, scales, border, field)
    if not steps:
        return resize(images, size, plain)
    matrices = _compose(steps)
    if all(step.augmentation.symmetry for step in steps):
        return symmetry(resize(images, size, plain), matrices)
    matrices, scales = cropped(matrices, _scales(steps), plain.crop)
    return resample(images, matrices, size, scales, border, lambda: _reach(steps))


def cropped(matrices: Float[Array, "b 3 3"], scales: tuple[float, float], crop: float) -> tuple[Array, tuple[float, float]]:
    """Return maps, and their least and largest enlargement, whose -1…1 is the share `crop` of the image's side about its centre."""
    if crop == 1:
        return matrices, scales
    return jnp.asarray([crop, crop, 1.0], matrices.dtype)[:, None] * matrices, (crop * scales[0], crop * scales[1])


def _compose(steps: list[_Step]) -> Float[Array, "b 3 3"]:
    """Compose the maps from output to input coordinates; the matrix of the first augmentation is nearest to the input."""
    matrices = [step.where(step.call("matrix"), jnp.eye(3, dtype=float)) for step in steps]
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def _bend(step: _Step, size: int) -> Float[Array, "b {size} {size} 2"]:
    """Return the displacements of all output pixels, 0 for the examples that the step does not apply to."""
    points = step.call("bend")
    basis = jnp.asarray(_splines(size, points.shape[1] - 3))
    rows = jnp.einsum("yi,bijk->byjk", basis, points, precision="highest")
    field = jnp.einsum("xj,byjk->byxk", basis, rows, precision="highest")
    return step.where(field, jnp.zeros_like(field))


def _splines(size: int, cells: int) -> np.ndarray:
    """Return the weights float32 [size, cells + 3] of the control points of a uniform cubic B-spline at the centres of `size` pixels."""
    place = (np.arange(size) + 0.5) / size * cells
    cell = np.minimum(np.floor(place).astype(int), cells - 1)
    t = place - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    basis = np.zeros((size, cells + 3), np.float32)
    basis[np.arange(size)[:, None], cell[:, None] + np.arange(4)] = weights
    return basis


def _colours(images: Array, steps: list[_Step]) -> Array:
    """Apply all colour maps in one multiply and clip to 0…1."""
    channels = images.shape[-1]
    eye = jnp.eye(channels, dtype=float)
    means = cast(Array, jax.vmap(channel_means)(images))
    matrix, shift = jnp.broadcast_to(eye, (len(images), channels, channels)), jnp.zeros_like(means)
    for step in steps:
        # An affine map of the channels maps their means likewise, so later augmentations get the mean that they would have measured.
        m, s = step.call("colour", _affine(matrix, shift, means))
        m, s = step.where(m, eye), step.where(s, jnp.zeros_like(s))
        matrix, shift = jnp.matmul(m, matrix, precision="highest"), _affine(m, s, shift)
    per_pixel = [images[..., k, None] * matrix[:, None, None, :, k] for k in range(channels)]
    return jnp.clip(sum(per_pixel, shift[:, None, None, :]), 0, 1)


def _affine(matrix: Array, shift: Array, values: Array) -> Array:
    """Return matrix [b, c, c] · values [b, c] + shift [b, c], without the rounding of a matrix unit."""
    return (matrix * values[:, None, :]).sum(-1) + shift


def _curve(images: Array, step: _Step) -> Array:
    """Map every value through the step's curve, interpolated between its entries."""
    # Without the barrier each of the uses below recomputes the images.
    images = jax.lax.optimization_barrier(images)
    channel = jnp.arange(images.shape[-1], dtype=jnp.int32)

    def count(image: Array) -> Array:
        level = jnp.round(image * 255).astype(jnp.int32)
        return jnp.zeros((256, image.shape[-1]), jnp.int32).at[level, channel].add(1, mode="drop")

    def look_up(image: Array, table: Array) -> Array:
        place = image * 255
        level = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, 254)
        low, high = (table.at[level + k, channel].get(mode="promise_in_bounds") for k in (0, 1))
        return low + (place - level.astype(float)) * (high - low)

    changed = jax.vmap(look_up)(images, step.call("curve", jax.vmap(count)(images)))
    return step.where(changed, images)


# ---- bounds of the geometry, independent of the draws ----


class _Moving(Protocol):
    """An augmentation with a method `matrix`."""

    draws: int
    p: float

    def matrix(self, u: np.ndarray, s: float) -> np.ndarray: ...


def _moving(step: _Step) -> list[_Moving]:
    """Return the augmentations that may move the step's pixels: itself, or the options of a slot that have a matrix."""
    options = step.augmentation.options if isinstance(step.augmentation, Slot) else (step.augmentation,)
    return cast(list[_Moving], [a for a in options if a is not None and a.does("matrix")])


def _corners(step: _Step) -> list[np.ndarray]:
    """Return the matrices of all extreme draws of one step, at the extreme strengths, and of draws between where they are few.

    A crop is largest between its extreme aspects, where it is a square.
    """
    moving = _moving(step)
    strengths = (step.s,) if isinstance(step.s, int | float) else (0.0, 1.0)
    always = step.augmentation is moving[0] and moving[0].p >= 1
    matrices = [] if always else [np.eye(3)]
    for a in moving:
        ends: list[Sequence[float]] = [(0.0, 1 - 2**-24)] * a.draws
        grids = [ends]
        if a.draws <= 4:
            grids += [[*ends[:i], np.linspace(0, 1 - 2**-24, 17).tolist(), *ends[i + 1 :]] for i in range(a.draws)]
        for *u, s in itertools.chain.from_iterable(itertools.product(*grid, strengths) for grid in grids):
            matrix = a.matrix(np.asarray(u, np.float64), s)
            matrices.append(matrix / matrix[2, 2])
    return matrices


def _scales(steps: Sequence[_Step]) -> tuple[float, float]:
    """Return the least and largest enlargement of an output pixel over the extreme draws of all augmentations together."""
    low, high = 1.0, 1.0
    for step in steps:
        scales = [math.sqrt(abs(np.linalg.det(m[:2, :2]))) for m in _corners(step)]
        low, high = low * min(scales), high * max(scales)
    # A scale that is too small by rounding must not become a level.
    return max(low, 1e-6), max(high, 1e-6)


def _reach(steps: Sequence[_Step]) -> tuple[float, float] | None:
    """Estimate the largest slants for `gather_free` from 512 random draws, with a margin of a tenth; None if a map is not affine."""
    rng, most = np.random.default_rng(0), np.zeros(2)
    for _ in range(512):
        total = np.eye(3)
        for step in steps:
            moving = _moving(step)
            a = moving[rng.integers(len(moving))]
            if rng.random() < a.p:
                total = total @ a.matrix(rng.random(a.draws), step.s if isinstance(step.s, int | float) else rng.random())
        if np.abs(total[2] - (0, 0, 1)).max() > 1e-9:
            return None
        most = np.maximum(most, np.abs(gather_free.slants(total)[2:4]))
    return float(1.1 * most[0]), float(1.1 * most[1])
