"""Optimizer settings and trained layer groups to one optax transformation, a learning rate per group."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import jax
import optax
import optax.contrib

from ..core.optimizers import AdamW, Lamb, Muon, Optimizer, Sgd
from ..core.state import Hyper, Tree
from .weight_ema import Averaged, average


def _decayed(params: Tree) -> Tree:
    """Weight decay touches matrices and kernels, never biases or normalisation (arrays of one dimension)."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def kind(optimizer: Optimizer) -> Optimizer:
    """The optimizer without the numbers that come with each update, so that two which differ in those alone have one program.

    >>> kind(Sgd(momentum=0.8, weight_decay=0.1)) == kind(Sgd())
    True
    """
    return replace(optimizer, momentum=0.9, weight_decay=0.0) if isinstance(optimizer, Sgd | AdamW) else optimizer


def transformation(optimizer: Optimizer, trained: tuple[str, ...], hyper: Hyper) -> optax.GradientTransformation:
    """The update rule: `optax.multi_transform` over the trained groups, each with its own rate out of `hyper.lr`.

    It is built inside the traced step, so rates, momentum and weight decay may be traced values and never recompile; the structure
    of its state depends on `optimizer` and `trained` alone.

    Args:
        optimizer: `config.Sgd`, `AdamW`, `Lamb` or `Muon`; its momentum and weight decay are taken from `hyper` instead.
        trained: names of the groups that train; the top level of the gradients.
        hyper: numbers of this update, `lr` [len(trained)].

    Raises:
        TypeError: for an optimizer that is neither.
    """

    def rule(lr: jax.Array) -> optax.GradientTransformation:
        if isinstance(optimizer, Sgd):
            return optax.chain(
                optax.add_decayed_weights(hyper.weight_decay, mask=_decayed),
                optax.sgd(lr, momentum=hyper.momentum, nesterov=optimizer.nesterov),
            )
        adam = {"eps": optimizer.eps, "weight_decay": hyper.weight_decay} if isinstance(optimizer, AdamW) else {}
        if isinstance(optimizer, Muon):
            return optax.contrib.muon(
                lr,
                ns_steps=optimizer.iterations,
                beta=hyper.momentum,
                weight_decay=hyper.weight_decay,
                weight_decay_mask=_decayed,
                adam_b1=hyper.momentum,
                adam_b2=optimizer.b2,
                adam_weight_decay=hyper.weight_decay,
            )
        if isinstance(optimizer, Lamb):
            return optax.lamb(lr, b1=hyper.momentum, b2=optimizer.b2, mask=_decayed, **adam)
        if isinstance(optimizer, AdamW):
            return optax.adamw(lr, b1=hyper.momentum, b2=optimizer.b2, mask=_decayed, **adam)
        raise TypeError(f"{optimizer!r} is no known optimizer")

    groups = optax.multi_transform({g: rule(hyper.lr[i]) for i, g in enumerate(trained)}, {g: g for g in trained})
    clip = getattr(optimizer, "clip", None)
    return optax.chain(optax.clip_by_global_norm(clip), groups) if clip else groups


def init(optimizer: Optimizer, trained: tuple[str, ...], params: Tree) -> optax.OptState:
    """Fresh slots for the trained groups; frozen groups have none."""
    zeros, params = Hyper([0.0] * len(trained), 0.0, 0.0, 0.0), {g: params[g] for g in trained}
    slots = transformation(optimizer, trained, zeros).init(params)
    # A copy, since what is donated must not be donated twice.
    return Averaged(slots, jax.tree.map(jax.numpy.array, params), jax.numpy.int32(0)) if optimizer.ema else slots


def update(
    optimizer: Optimizer, trained: tuple[str, ...], hyper: Hyper, grads: Tree, opt_state: optax.OptState, params: Tree
) -> tuple[Tree, optax.OptState]:
    """One update of the trained groups.

    Args:
        grads, params: trees over the trained groups.
        opt_state: from `init` or the previous update.

    Returns:
        (new parameters of the trained groups, new optimizer state).
    """
    slots = opt_state.slots if isinstance(opt_state, Averaged) else opt_state
    with jax.numpy_dtype_promotion("standard"):  # optax raises Adam's b1, here a float32 array, to an integer power
        updates, slots = transformation(optimizer, trained, hyper).update(grads, slots, params)
    params = cast(Tree, optax.apply_updates(params, updates))
    return params, average(optimizer.ema, opt_state, slots, params) if isinstance(opt_state, Averaged) else slots


def sharpest(radius: float, grads: Tree, params: Tree) -> Tree:
    """Where the loss is highest, to first order, within a radius: p + r · g / |g|, with the norm over all groups."""
    norm = jax.numpy.sqrt(sum(jax.numpy.sum(g * g) for g in jax.tree.leaves(grads)))
    return jax.tree.map(lambda p, g: p + radius * g / jax.numpy.maximum(norm, 1e-12), params, grads)
