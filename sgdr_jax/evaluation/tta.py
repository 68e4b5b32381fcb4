"""Test-time augmentation: views of images, and the mixture of their predictions.

View 0 is the plain image. The others are fixed, or drawn from the experiment's augmentations with keys that depend only on the view and
the example. Weights and mean of the mixture are explicit; see `Eval`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from ..augment import Border, Dihedral, kernel
from ..augment.plain import WHOLE, PlainView
from ..core.experiment import Eval
from ..core.types import Augmentation
from . import metrics

_CORNERS = ((-1, -1), (1, -1), (-1, 1), (1, 1), (0, 0))
_SCALES = (7 / 8, 9 / 8, 3 / 4, 5 / 4)


def view_count(evaluate: Eval, augmentations: Sequence[Augmentation] = ()) -> int:
    """Return the number of views, including the plain one; 1 for random views where no augmentation acts, which would all be plain.

    None acts on a single image that mixes images of a batch, says what lies beyond the border, or has the probability 0.

    >>> view_count(Eval(tta_views=7, tta_kind="dihedral"))
    8
    """
    act = any(a.applies(0.0, 1) and not a.does("mix") and not isinstance(a, Border) for a in augmentations)
    return 1 if evaluate.tta_kind == "random" and not act else 1 + evaluate.tta_views


def _windows(kind: str) -> np.ndarray:
    """Return the maps [views, 3, 3] from output to input coordinates of the windowed views, the plain view first."""
    if kind == "scales":
        views = [np.diag([s, s, 1.0]) for s in _SCALES]
    else:
        views = [np.array([[m * 7 / 8, 0, x / 8], [0, 7 / 8, y / 8], [0, 0, 1]]) for m in (1, -1) for x, y in _CORNERS]
    return np.stack([np.eye(3), *views]).astype(np.float32)


def view(
    images: UInt8[Array, "b S S c"],
    ids: UInt32[Array, " b"],
    key: Key[Array, ""],
    v: int | Int[Array, ""],
    *,
    augmentations: Sequence[Augmentation],
    size: int,
    kind: Literal["random", "flip", "dihedral", "five", "ten", "scales"],
    plain: PlainView = WHOLE,
) -> Float[Array, "b {size} {size} c"]:
    """Compute view number `v` of each image, float32 in 0…1; `v` may be traced, so one compiled function serves all views.

    View 0 is `resize`, as `plain` describes it; the side is that of its crop. A random view of an example depends on (`key`, `v`, its id),
    not on its batch. Kind "flip" has view 1, kind "dihedral" views 1…7 by the numbers of `augment.Dihedral`; both move the pixels of view
    0. Kind "five" has the four corners in reading order and the centre, each a window of 7/8 of the side; "ten" has their mirror images as
    views 6…10; "scales" has windows about the centre of 7/8, 9/8, 3/4 and 5/4 of the side.
    """
    v = jnp.asarray(v, jnp.int32)

    def other() -> Array:
        if kind == "random":
            return kernel.augment(images, ids, jax.random.fold_in(key, v), augmentations, size, plain=plain)
        windows = _windows(kind)
        scales = (float(windows[:, 1, 1].min()), float(windows[:, 1, 1].max()))
        matrices = jnp.broadcast_to(jnp.asarray(windows)[v], (len(images), 3, 3))
        matrices, scales = kernel.cropped(matrices, scales, plain.crop)
        return kernel.resample(images, matrices, size, scales)

    if kind not in ("flip", "dihedral"):
        return jax.lax.cond(v == 0, lambda: kernel.resize(images, size, plain), other)
    # Flip is number 1 of the eight symmetries.
    draw = (v.astype(jnp.float32) + 0.5) / 8
    matrix = Dihedral().matrix(draw[None], 1.0)
    return kernel.symmetry(kernel.resize(images, size, plain), jnp.broadcast_to(matrix, (len(images), 3, 3)))


# ---- mixing, on the host ----


def mix_prefixes(
    logits: Float[np.ndarray, "v b k"],
    *,
    weight: float | tuple[float, ...] | None = 0.25,
    mean: Literal["probability", "log", "max"] = "probability",
    multi_label: bool = False,
) -> Float[np.ndarray, "v b k"]:
    """Compute the logits of the first view, of the first two mixed, …, float64; `weight` and `mean` as in `Eval`.

    Their probabilities (`metrics.squash`): with one number w as weight, view 0 has weight w and the others share the rest evenly; a single
    view has weight 1. mean "probability": Σ w_v·softmax(z_v). mean "log": softmax(Σ w_v·log softmax(z_v)), the normalised geometric mean,
    which equals softmax(Σ w_v·z_v). mean "max": max_v softmax(z_v), divided by its sum, ignoring views of weight 0. Multi-label data
    use the sigmoid in place of the softmax, and maxima are not normalised.

    A mean of probabilities is computed from their logarithms: of those that are rounded to 0 or 1 the loss is lost, and views that say the
    same would have another loss together than each alone.

    >>> np.exp(mix_prefixes(np.log([[[1.0, 3.0]], [[1.0, 1.0]]]), weight=0.5)[1]).round(4)
    array([[0.375, 0.625]])
    """
    z = np.asarray(logits, np.float64)
    one = isinstance(weight, float | int)
    each = np.array([weight] + [1 - weight] * (len(z) - 1) if one else weight[: len(z)] if weight else [1.0] * len(z))[:, None, None]
    # Views of weight 0 are masked, since infinite logits would give NaN.
    shares, used = weight if one else each, each > 0
    if mean == "max":
        mixed = np.maximum.accumulate(np.where(used, z if multi_label else _log_softmax(z), -np.inf))[1:]
    elif mean == "log":
        mixed = _means(np.where(used, z, 0), shares)
    elif multi_label:
        yes, no = (_log_means(np.where(used, -np.logaddexp(0, -sign * z), 0), shares) for sign in (1, -1))
        mixed = yes - no
    else:
        mixed = _log_means(np.where(used, _log_softmax(z), 0), shares)
    return np.concatenate([z[:1], mixed])


def _log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - z.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _means(values: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """Return the weighted means of the first two views, of the first three, …; `weight` is that of view 0, or [views, 1, 1]."""
    if isinstance(weight, np.ndarray):
        return (np.cumsum(weight * values, 0) / np.cumsum(weight, 0))[1:]
    rest = np.cumsum(values[1:], 0) / np.arange(1, len(values))[:, None, None]
    return weight * values[:1] + (1 - weight) * rest


def _log_means(logs: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """Return the logarithms of `_means` of exp(logs), without computing exp(logs)."""
    with np.errstate(divide="ignore"):  # the logarithm of a weight of 0
        if isinstance(weight, np.ndarray):
            return (np.logaddexp.accumulate(np.log(weight) + logs) - np.log(np.cumsum(weight, 0)))[1:]
        rest = np.logaddexp.accumulate(logs[1:]) - np.log(np.arange(1, len(logs)))[:, None, None]
        return np.logaddexp(np.log(weight) + logs[:1], np.log(1 - weight) + rest)


def mean_logits(each: Sequence[Float[np.ndarray, "b k"]], multi_label: bool) -> Float[np.ndarray, "b k"]:
    """Return the logits of the mean of the probabilities of several predictions, float64: the last of `mix_prefixes` with equal weights.

    One of them is looked at after the other, since an ensemble may have many, of many images.

    >>> metrics.squash(mean_logits(np.log([[[1.0, 3.0]], [[1.0, 1.0]]]), multi_label=False), multi_label=False).round(4)
    array([[0.375, 0.625]])
    """

    def summed(sign: int) -> np.ndarray:
        logits = (np.asarray(z, np.float64) for z in each)
        return functools.reduce(np.logaddexp, (-np.logaddexp(0, -sign * z) if multi_label else _log_softmax(z) for z in logits))

    return summed(1) - summed(-1) if multi_label else summed(1) - np.log(len(each))


def mix_views(
    logits: Float[np.ndarray, "v b k"],
    *,
    weight: float | tuple[float, ...] | None = 0.25,
    mean: Literal["probability", "log", "max"] = "probability",
    multi_label: bool = False,
) -> Float[np.ndarray, "b k"]:
    """Compute the probabilities of all views mixed, float64; see `mix_prefixes`.

    >>> mix_views(np.log([[[1.0, 3.0]], [[1.0, 1.0]]]), weight=0.5)
    array([[0.375, 0.625]])
    """
    return metrics.squash(mix_prefixes(logits, weight=weight, mean=mean, multi_label=multi_label)[-1], multi_label)


def disagreement(
    logits: Float[np.ndarray, "v b k"], probabilities: Float[np.ndarray, "b k"], threshold: float | None = None
) -> Float[np.ndarray, " b"]:
    """Compute the share of views, 0…1, whose class differs from that of the mixture; of decisions for multi-label data.

    Args:
        logits: of the views.
        probabilities: of the mixture.
        threshold: probability above which a class of multi-label data is predicted; None for one class for each image.

    >>> disagreement(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.array([[0.6, 0.4]]))
    array([0.5])
    """
    if threshold is not None:
        return ((metrics.squash(logits, True) > threshold) != (probabilities > threshold)).mean((0, 2))
    return (logits.argmax(-1) != probabilities.argmax(-1)).mean(0)
