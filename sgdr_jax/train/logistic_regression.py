"""Multinomial logistic regression with a ridge penalty, solved for several sets of example weights at once.

The sets (the parts of a cross-validation) are lanes of one program that reads the features once per evaluation. L-BFGS is written for
lanes here: under `jax.vmap` optax's line search evaluates every branch, four times the work, and jaxlib 0.12.0.1 ends in a segmentation
fault when it fuses its inner products on a CPU.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..evaluation import metrics
from ..models.precision import full_products

MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS keeps."""
PROBES = 4
"""Random directions that the features' curvature is measured along."""
STUCK = 1e-3
"""Step, relative to that of L-BFGS, below which rounding rather than curvature shortens it."""


class Problem(NamedTuple):
    """Examples of a regression.

    Attributes:
        features: float [n, d], the last column ones, whose weights are the bias.
        labels: int [n], or float [n, k] of zeros and ones for one sigmoid per class.
        label_smoothing: as in `metrics.losses`, scalar.
        curvature: of the loss along typical directions of the features, per unit of `metrics.losses`; scalar, only sets the first steps.
    """

    features: Array
    labels: Array
    label_smoothing: Array
    curvature: Array


class Minimum(NamedTuple):
    """Result of `minimise` for each lane.

    Attributes:
        weights: float [lanes, d, k], the last row the bias.
        gradient: float [lanes], norm of the gradient relative to that at zero.
        evaluations: int scalar, passes over the features.
    """

    weights: Array
    gradient: Array
    evaluations: Array


@jax.jit
def standardise(x: Float[Array, "n d"], share: Float[Array, " n"], eps: float) -> tuple[Array, Array, Array]:
    """Return features (x - mean) / √(var + eps) with a column of ones [n, d + 1], mean [d] and variance [d] (of the population).

    Args:
        x: activations.
        share: weight of each row, of sum 1; rows of weight 0 do not count.
        eps: that of the batch normalisation.
    """
    with full_products():
        mean = share @ x
        var = share @ jnp.square(x - mean)
    features = (x - mean) * jax.lax.rsqrt(var + eps)
    return jnp.concatenate([features, jnp.ones_like(features[:, :1])], axis=1), mean, var


@partial(jax.jit, static_argnames=("classes",))
def problem(features: Array, labels: Array, label_smoothing: float, share: Float[Array, " n"], classes: int) -> Problem:
    """Build a problem; its curvature is measured along random directions: Σ s² / Σ s over the eigenvalues s of the features' covariance."""
    signs = jax.random.rademacher(jax.random.key(0), (features.shape[1] - 1, PROBES), features.dtype)
    x = features[:, :-1]
    turned = x.T @ (share[:, None] * (x @ signs))
    mean = jnp.sum(turned * turned) / jnp.maximum(jnp.sum(signs * turned), jnp.finfo(x.dtype).tiny)
    return Problem(features, labels, jnp.asarray(label_smoothing, x.dtype), mean * _at_zero(classes, labels.ndim == 2))


def _at_zero(classes: int, multi_label: bool) -> float:
    """Return the second derivative of `metrics.losses` by a logit, at logits of zero."""
    return 0.25 / classes if multi_label else max(classes - 1, 1) / classes**2


def _logits(features: Array, weights: Array) -> Array:
    """Return [n, lanes, k]: one matrix product for all lanes."""
    lanes, d, k = weights.shape
    return (features @ weights.transpose(1, 0, 2).reshape(d, lanes * k)).reshape(-1, lanes, k)


def residuals(logits: Float[Array, "n lanes k"], labels: Array, label_smoothing: Array) -> Array:
    """Return the derivative of `metrics.losses` by the logits [n, lanes, k]."""
    k = logits.shape[-1]
    if labels.ndim == 2:
        targets = labels.astype(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        return (jax.nn.sigmoid(logits) - targets[:, None]) / k
    targets = jax.nn.one_hot(labels, k, dtype=logits.dtype) * (1 - label_smoothing) + label_smoothing / k
    return jax.nn.softmax(logits) - targets[:, None]


def _gradient(p: Problem, share: Array, ridge: Array, weights: Array) -> Array:
    """Return the gradient [lanes, d, k] of Σ share · loss + Σ ridge / 2 · weights²; `ridge` [d, 1]."""
    lanes, d, k = weights.shape
    error = residuals(_logits(p.features, weights), p.labels, p.label_smoothing) * share.T[:, :, None]
    return (p.features.T @ error.reshape(-1, lanes * k)).reshape(d, lanes, k).transpose(1, 0, 2) + ridge * weights


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=(1, 2), keepdims=True)


def _direction(gradient: Array, steps: Array, changes: Array, rho: Array) -> Array:
    """Return the L-BFGS direction of each lane by the two-loop recursion; pairs lie along the first axis, oldest first.

    Source: Nocedal & Wright 2006, algorithm 7.4.
    """

    def back(q: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        step, change, r = pair
        a = r * _dot(step, q)
        return q - a * change, a

    def forth(q: Array, pair: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        step, change, r, a = pair
        return q + (a - r * _dot(change, q)) * step, None

    q, a = jax.lax.scan(back, gradient, (steps, changes, rho), reverse=True)
    square = _dot(changes[-1], changes[-1])
    q = q * jnp.where(square > 0, _dot(steps[-1], changes[-1]) / jnp.where(square > 0, square, 1), 1)
    return -jax.lax.scan(forth, q, (steps, changes, rho, a))[0]


@jax.jit
def minimise(p: Problem, share: Float[Array, "lanes n"], weight_decay: float, start: Array, tolerance: float, most: int) -> Minimum:
    """Minimise Σᵢ shareᵢ · lossᵢ + weight_decay / 2 · ‖weights without bias‖² in each lane.

    A step is accepted where the slope along it has not risen above half of its first size, else shortened by the secant rule. On a convex
    function this lowers the value, and unlike a comparison of values it is not drowned by rounding near the minimum. Source: the
    approximate Wolfe conditions of Hager & Zhang 2005.

    Args:
        p: the examples.
        share: weight of each example in each lane, of sum 1.
        weight_decay: strength of the penalty, above 0.
        start: weights to start from [lanes, d, k].
        tolerance: gradient norm, relative to that at zero, at which a lane is done.
        most: largest number of evaluations of the gradient.
    """
    d, k = start.shape[1:]
    bias = (jnp.arange(d) == d - 1)[:, None]
    ridge = jnp.where(bias, 0, weight_decay).astype(start.dtype)
    # In the scaled variables the curvature is about 1 along the bias and along typical features alike.
    scale = jax.lax.rsqrt(jnp.where(bias, _at_zero(k, p.labels.ndim == 2), p.curvature + weight_decay).astype(start.dtype))

    def slope(v: Array) -> Array:
        return scale * _gradient(p, share, ridge, scale * v)

    def norm(g: Array) -> Array:
        return jnp.sqrt(_dot(g / scale, g / scale))

    def busy(g: Array, t: Array) -> Array:
        return (norm(g) > tolerance * first) & (t > STUCK)

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        i, v, g, d, steps, changes, rho, t = carry
        next_v = v + t * d
        next_g = slope(next_v)
        before, after = _dot(g, d), _dot(next_g, d)
        accepted = (after <= 0.5 * jnp.abs(before)) & busy(g, t)
        rise = t * (after - before)
        inverse = jnp.where(rise > 0, 1 / jnp.where(rise > 0, rise, 1), 0)

        def push(kept: Array, new: Array) -> Array:
            return jnp.where(accepted, jnp.concatenate([kept[1:], new[None]]), kept)

        steps, changes, rho = push(steps, next_v - v), push(changes, next_g - g), push(rho, inverse)
        v, g = jnp.where(accepted, next_v, v), jnp.where(accepted, next_g, g)
        d = jnp.where(accepted, _direction(g, steps, changes, rho), d)
        shorter = jnp.clip(before / (before - after), 0.1, 0.7)
        return i + 1, v, g, d, steps, changes, rho, jnp.where(accepted, 1, jnp.where(busy(g, t), t * shorter, t))

    with full_products():
        v = start / scale
        first = norm(slope(jnp.zeros_like(v)))
        g = slope(v)
        memory, one = jnp.zeros((MEMORY, *v.shape), v.dtype), jnp.ones((len(v), 1, 1), v.dtype)
        carry = (jnp.int32(0), v, g, -g, memory, memory, jnp.zeros((MEMORY, *one.shape), v.dtype), one)
        i, v, g, *_ = jax.lax.while_loop(lambda c: (c[0] < most) & jnp.any(busy(c[2], c[-1])), body, carry)
    return Minimum(scale * v, (norm(g) / jnp.maximum(first, jnp.finfo(v.dtype).tiny)).ravel(), i + 2)


@jax.jit
def losses(p: Problem, share: Float[Array, "lanes n"], weights: Array, label_smoothing: Array | float = 0.0) -> Array:
    """Return Σ share · loss of each lane, float [lanes], without penalty."""
    with full_products():
        logits = _logits(p.features, weights)
    each = jax.vmap(lambda z: metrics.losses(z, p.labels, label_smoothing), in_axes=1)(logits)
    return jnp.sum(each * share, axis=1)
