"""Carries augmentations out: one resampling for all geometry, then colour maps composed to one multiply, curves, and changes of pixels.

Geometry composes to one 3×3 matrix per example, so that an image is interpolated once, whatever the number of augmentations; the resize
from the stored canvas is part of it. Images continue beyond their borders as their mirror image (the edge pixel doubled), as in fastai
0.7, unless the set holds a `Border`.

Everything here is a pure function, to be called under `jax.jit` with `augmentations` and `size` static and the strength traced. All
arrays are split over examples only, so a batch that is spread over devices stays where it is. The arithmetic is in jax's default float,
float32 unless JAX_ENABLE_X64 is set; the draws are the same for both.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8, UInt32

from ..core.types import Augmentation
from ..core.validation import require
from . import gather_free, resampling
from .affine import Border
from .choice import AugMix
from .draw import channel_means
from .resampling import resize, symmetry

_METHODS = ("matrix", "bend", "colour", "curve", "pixels", "mix")


class _Step(NamedTuple):
    """One augmentation with its draws for the whole batch.

    Attributes:
        what: the augmentation, or a part of it.
        applies: bool [b].
        u: float32 [b, draws].
        s: strength.
    """

    what: Any
    applies: Array
    u: Array
    s: Any

    def call(self, method: str, *more: Array) -> Any:
        """The method's result for each example, [b, ...]."""
        return jax.vmap(lambda u, *x: getattr(self.what, method)(u, self.s, *x))(self.u, *more)

    def where(self, changed: Array, unchanged: Array) -> Array:
        """`changed` for the examples that the augmentation applies to."""
        return jnp.where(self.applies.reshape(-1, *(1,) * (changed.ndim - 1)), changed, unchanged)


def augment(
    images: UInt8[Array, "b S S c"],
    seeds: UInt32[Array, " b"],
    key: Key[Array, ""],
    augmentations: Sequence[Augmentation],
    size: int,
    strength: float | Float[Array, ""] | Float[Array, " augmentations"] = 1.0,
) -> Float[Array, "b {size} {size} c"]:
    """Augmented images in 0…1, float32; example i depends on `key`, `seeds[i]` and its own pixels alone, not on the rest of the batch.

    All uniform numbers of an example are one vector drawn from `fold_in(key, seeds[i])`: for each augmentation in order one that decides
    whether it applies, then its `draws`. Appending an augmentation therefore leaves the draws of the earlier ones as they were.
    Geometry comes first (composed in order; what bends the view does so last), then everything else in order; neighbouring colour maps
    are composed and their result clipped to 0…1. Without geometry the pixels are those of `resize`; symmetries of the square alone move
    them without interpolating. `strength` scales the magnitudes, one for all augmentations or one for each; 0 is the plain image. What
    mixes images is left to `mix`.

    Raises InputError for an augmentation without a probability `p` or without any of the methods of `types.Augmentation`.
    """
    steps = [step for step in _draw(seeds, key, augmentations, strength) if not step.what.does("mix")]
    border = next((a for a in reversed(augmentations) if isinstance(a, Border)), resampling.MIRRORED)
    at = [i for i, step in enumerate(steps) if isinstance(step.what, AugMix)]
    require(len(at) <= 1, "augment", len(at), "use AugMix once at most")
    if not at:
        return _render(images, [part for step in steps for part in _parts(step)], size, border)
    before, mixer, after = steps[: at[0]], steps[at[0]], steps[at[0] + 1 :]
    weights = mixer.where(mixer.call("weights"), jnp.eye(1, 1 + mixer.what.width, dtype=float))
    total = jnp.zeros((), float)
    for k, chain in enumerate(mixer.what.branches):
        parts = [part for step in before for part in _parts(step)]
        parts += [mixer._replace(what=slot) for slot in chain] + [part for step in after for part in _parts(step)]
        total = total + weights[:, k, None, None, None] * _render(images, parts, size, border)
    return total


def mix(
    images: Float[Array, "b s s c"],
    seeds: UInt32[Array, " b"],
    key: Key[Array, ""],
    augmentations: Sequence[Augmentation],
    strength: float | Float[Array, ""] | Float[Array, " augmentations"] = 1.0,
) -> tuple[Float[Array, "b s s c"], Float[Array, " b"]]:
    """Images blended with their neighbours in the batch (0 with 1, 2 with 3, …), and the share of its own label that each one keeps.

    Continues `augment` with the same seeds and key. Neighbours are on the same device when every device holds an even number of
    examples; the last one of an odd batch is its own neighbour. Raises InputError when more than one augmentation mixes.
    """
    steps = [step for step in _draw(seeds, key, augmentations, strength) if step.what.does("mix")]
    require(len(steps) <= 1, "augment", [type(step.what).__name__ for step in steps], "use MixUp or CutMix once, not both")
    share = jnp.ones(len(images), float)
    if not steps:
        return images, share
    (step,) = steps
    mixed, own = step.call("mix", images, neighbours(images))
    return step.where(mixed, images), step.where(own, share)


def neighbours(values: Array) -> Array:
    """Rows 1, 0, 3, 2, …; the last row of an odd number stays."""
    pairs = len(values) // 2
    swapped = values[: 2 * pairs].reshape(pairs, 2, *values.shape[1:])[:, ::-1].reshape(2 * pairs, *values.shape[1:])
    return jnp.concatenate([swapped, values[2 * pairs :]]) if len(values) % 2 else swapped


# ---- from descriptions to numbers ----


def _draw(seeds: Array, key: Array, augmentations: Sequence[Augmentation], strength: Any) -> list[_Step]:
    """Every augmentation with whether it applies and its uniform numbers."""
    for a in augmentations:
        known = any(a.does(method) for method in _METHODS) or isinstance(a, Border | AugMix) or a.parts != (a,)
        require(known, type(a).__name__, a, f"an augmentation has one of the methods {', '.join(_METHODS)}")
        require(hasattr(a, "p"), type(a).__name__, a, "an augmentation has a field p, its probability")
    ends = np.cumsum([1 + a.draws for a in augmentations], dtype=int).tolist()
    if not ends:
        return []
    # The bits of element i do not depend on the length of the vector (jax_threefry_partitionable, the default).
    u = jax.vmap(lambda seed: jax.random.uniform(jax.random.fold_in(key, seed), (ends[-1],), jnp.float32))(seeds).astype(float)
    parts = [u[:, start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    each = [strength] * len(ends) if isinstance(strength, int | float) else jnp.broadcast_to(strength, (len(ends),))
    return [_Step(a, a.applies(part[:, 0], s), part[:, 1:], s) for a, part, s in zip(augmentations, parts, each, strict=True)]


def _parts(step: _Step) -> list[_Step]:
    return [step._replace(what=part) for part in step.what.parts]


# ---- from numbers to pixels ----


def _render(images: Array, steps: list[_Step], size: int, border: Border) -> Array:
    """Carries the steps out: geometry, then colour, curves and pixels in order."""
    geometry = [step for step in steps if step.what.does("matrix")]
    bends = [step for step in steps if step.what.does("bend")]
    out = _geometry(images, geometry, bends, size, border)
    # Held fast, lest each later use of the images computes them anew.
    out = jax.lax.optimization_barrier(out)
    colours: list[_Step] = []
    for step in steps:
        if step.what.does("colour"):
            colours.append(step)
        if colours and (step.what.does("curve") or step.what.does("pixels")):
            out, colours = jax.lax.optimization_barrier(_colours(out, colours)), []
        if step.what.does("curve"):
            out = _curve(out, step)
        if step.what.does("pixels"):
            out = step.where(step.call("pixels", out), out)
    return _colours(out, colours) if colours else out


def _geometry(images: Array, steps: list[_Step], bends: list[_Step], size: int, border: Border) -> Array:
    """The images under the composed map of coordinates. Here, and only here, is chosen how pixels are fetched."""
    if bends:
        matrices = _compose(steps) if steps else jnp.broadcast_to(jnp.eye(3, dtype=float), (len(images), 3, 3))
        field = functools.reduce(jnp.add, [_bend(step, size) for step in bends])
        return resampling.resample(images, matrices, size, _scales(steps), border, field)
    if not steps:
        return resize(images, size)
    matrices = _compose(steps)
    described = [step.what for step in steps]
    if all(a.symmetry for a in described):
        return symmetry(resize(images, size), matrices)
    affine = jax.default_backend() == "tpu" and _reach(steps)
    if affine:
        return gather_free.resample(images, matrices, size, affine, border)
    return resampling.resample(images, matrices, size, _scales(steps), border)


def _compose(steps: list[_Step]) -> Float[Array, "b 3 3"]:
    """The map from output to input coordinates of all geometry: the first augmentation's matrix is the one nearest to the input."""
    total = None
    for step in steps:
        matrix = step.where(step.call("matrix"), jnp.eye(3, dtype=float))
        total = matrix if total is None else jnp.matmul(total, matrix, precision="highest")
    assert total is not None
    return total


def _bend(step: _Step, size: int) -> Float[Array, "b {size} {size} 2"]:
    """Displacements of all output pixels, 0 for the examples that the step does not apply to."""
    points = step.call("bend")
    basis = jnp.asarray(_splines(size, points.shape[1] - 3))
    rows = jnp.einsum("yi,bijk->byjk", basis, points, precision="highest")
    field = jnp.einsum("xj,byjk->byxk", basis, rows, precision="highest")
    return step.where(field, jnp.zeros_like(field))


def _splines(size: int, cells: int) -> np.ndarray:
    """Weights float32 [size, cells + 3] of the control points of a uniform cubic B-spline at the centres of `size` pixels."""
    place = (np.arange(size) + 0.5) / size * cells
    cell = np.minimum(np.floor(place).astype(int), cells - 1)
    t = place - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    basis = np.zeros((size, cells + 3), np.float32)
    basis[np.arange(size)[:, None], cell[:, None] + np.arange(4)] = weights
    return basis


def _colours(images: Array, steps: list[_Step]) -> Array:
    """All colour maps in one multiply, clipped to 0…1."""
    channels = images.shape[-1]
    eye = jnp.eye(channels, dtype=float)
    means = jax.vmap(channel_means)(images)
    matrix, shift = jnp.broadcast_to(eye, (len(images), channels, channels)), jnp.zeros_like(means)
    for step in steps:
        # An affine map of the channels maps their means likewise, so later augmentations see the mean that they would have measured.
        m, s = step.call("colour", _affine(matrix, shift, means))
        m, s = step.where(m, eye), step.where(s, jnp.zeros_like(s))
        matrix, shift = jnp.matmul(m, matrix, precision="highest"), _affine(m, s, shift)
    per_pixel = [images[..., k, None] * matrix[:, None, None, :, k] for k in range(channels)]
    return jnp.clip(sum(per_pixel, shift[:, None, None, :]), 0, 1)


def _affine(matrix: Array, shift: Array, values: Array) -> Array:
    """matrix [b, c, c] · values [b, c] + shift [b, c], without a matrix unit's rounding."""
    return (matrix * values[:, None, :]).sum(-1) + shift


def _curve(images: Array, step: _Step) -> Array:
    """Every value through the step's curve, read off between its entries."""
    # Each of the uses below would compute the images anew.
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


# ---- what is known about geometry before anything is drawn ----


def _corners(step: _Step) -> list[np.ndarray]:
    """The matrices of all extreme draws of one step, at the extreme strengths."""
    options = getattr(step.what, "options", None) or (step.what,)
    strengths = (step.s,) if isinstance(step.s, int | float) else (0.0, 1.0)
    found = [np.eye(3)] if step.what is not options[0] or getattr(step.what, "p", 0) < 1 else []
    for a in (a for a in options if a is not None and a.does("matrix")):
        for *u, s in itertools.product(*[(0.0, 1 - 2**-24)] * a.draws, strengths):
            matrix = a.matrix(np.asarray(u, np.float64), s)
            found.append(matrix / matrix[2, 2])
    return found


def _scales(steps: Sequence[_Step]) -> tuple[float, float]:
    """Least and largest enlargement of an output pixel over the extreme draws of all augmentations together."""
    low, high = 1.0, 1.0
    for step in steps:
        scales = [math.sqrt(abs(np.linalg.det(m[:2, :2]))) for m in _corners(step)]
        low, high = low * min(scales), high * max(scales)
    # Too small by rounding must not become a level.
    return max(low, 1e-6), max(high, 1e-6)


def _reach(steps: Sequence[_Step]) -> tuple[float, float] | None:
    """Largest slants that `gather_free` meets, from 512 random draws with a tenth to spare; None when a map is not affine."""
    rng, most = np.random.default_rng(0), np.zeros(2)
    for _ in range(512):
        total = np.eye(3)
        for step in steps:
            options = [a for a in getattr(step.what, "options", (step.what,)) if a is not None and a.does("matrix")]
            a = options[rng.integers(len(options))]
            if rng.random() < a.p:
                total = total @ a.matrix(rng.random(a.draws), step.s if isinstance(step.s, int | float) else rng.random())
        if np.abs(total[2] - (0, 0, 1)).max() > 1e-9:
            return None
        most = np.maximum(most, np.abs(gather_free.slants(total)[2:4]))
    return float(1.1 * most[0]), float(1.1 * most[1])
