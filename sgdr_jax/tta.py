"""Test-time augmentation: predictions from several views of an image, mixed. A wrapper of prediction, for any split.

View 0 is the plain image. The others are drawn from the experiment's augmentations, by keys that depend on the view and the example alone,
or they are fixed symmetries. Mixing is explicit about its weights and its mean; see `config.Eval`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from .augment import Dihedral, kernel
from .config import Eval
from .types import Augmentation


def count(evaluate: Eval, augmentations: Sequence[Augmentation] = ()) -> int:
    """Number of views to compute, the plain one included. Random views without augmentations would all be the plain one, so it is 1 then.

    >>> count(Eval(tta_views=7, tta_kind="dihedral"))
    8
    """
    return 1 if evaluate.tta_kind == "random" and not augmentations else 1 + evaluate.tta_views


def view(
    images: UInt8[Array, "b S S c"],
    ids: UInt32[Array, " b"],
    key: Key[Array, ""],
    v: int | Int[Array, ""],
    *,
    augmentations: Sequence[Augmentation],
    size: int,
    kind: Literal["random", "flip", "dihedral"],
) -> Float[Array, "b {size} {size} c"]:
    """View number `v` of each image, float32 in 0…1; `v` may be traced, so one compiled function serves all views.

    View 0 is `kernel.resize`. A random view of an example depends on (`key`, `v`, its id), not on the batch it comes in. Fixed
    views move the pixels of view 0: kind "flip" has view 1, kind "dihedral" views 1…7 by the numbers of `augment.Dihedral`.
    """
    v = jnp.asarray(v, jnp.int32)
    if kind == "random":
        return jax.lax.cond(
            v == 0,
            lambda: kernel.resize(images, size),
            lambda: kernel.augment(images, ids, jax.random.fold_in(key, v), augmentations, size),
        )
    # Flip is number 1 of the eight symmetries.
    draw = (v.astype(jnp.float32) + 0.5) / 8
    matrix = Dihedral().matrix(draw[None])
    return kernel.symmetry(kernel.resize(images, size), jnp.broadcast_to(matrix, (len(images), 3, 3)))


def combine(
    logits: Float[Any, "v b k"],
    *,
    weight: float | None = 0.25,
    mean: Literal["probability", "log"] = "probability",
    multi_label: bool = False,
) -> Float[Array, "b k"]:
    """Probabilities of the mixed views; `weight` is the share of view 0, the other views split the rest evenly, None weighs all alike.

    mean "probability": Σ w_v·softmax(z_v). mean "log": softmax(Σ w_v·log softmax(z_v)), the normalised geometric mean; it equals
    softmax(Σ w_v·z_v), so no logarithm is taken. Multi-label data have the sigmoid in place of the softmax. A single view weighs 1.

    >>> combine(jnp.log(jnp.asarray([[[1.0, 3.0]], [[1.0, 1.0]]])), weight=0.5)
    Array([[0.375, 0.625]], dtype=float32)
    """
    views = len(logits)
    plain = 1 / views if weight is None or views == 1 else weight
    weights = [plain] + [(1 - plain) / max(views - 1, 1)] * (views - 1)
    squash = jax.nn.sigmoid if multi_label else jax.nn.softmax

    def mix(values: Array) -> Array:
        # Views of weight 0 are left out, so that an infinite logit there stays harmless.
        return sum((w * value for w, value in zip(weights, values, strict=True) if w), jnp.zeros_like(values[0]))

    return squash(mix(logits)) if mean == "log" else mix(squash(logits))


def fastai07_weight(views: int) -> float:
    """Weight of the plain view in fastai 0.7's TTA with `views` augmented ones, where it is repeated ceil(views / 4) times.

    r / (r + n) with r = ceil(n / 4): 1/5 for the default n = 4; 1 without augmented views.

    >>> fastai07_weight(4), fastai07_weight(5)
    (0.2, 0.2857142857142857)
    """
    plain = math.ceil(views / 4)
    return plain / (plain + views) if views else 1.0
