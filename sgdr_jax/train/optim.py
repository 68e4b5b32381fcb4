"""The optimizer's update of the trained layer groups, each at its own learning rate; sharpness-aware minimisation."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax  # pyright: ignore[reportMissingTypeStubs]

from ..core.optimizers import AdamW, Optimizer, Sgd
from ..core.state import Hyper, Tree
from . import weight_ema
from .reductions import global_norm
from .weight_ema import Averaged


def without_hyper(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer without the numbers that come with each update: optimizers of one kind share their compiled programs.

    Example:
        >>> from sgdr_jax.core.optimizers import Sgd
        >>> without_hyper(Sgd(momentum=0.8, weight_decay=0.1)) == without_hyper(Sgd())
        True
    """
    return replace(optimizer, momentum=0.9, weight_decay=0.0)


def transformation(optimizer: Optimizer, trained: tuple[str, ...], hyper: Hyper, norm: jax.Array | float) -> optax.GradientTransformation:
    """Build the update rule of all trained groups, each with its own rate out of `hyper.lr`, after clipping over all of them.

    It is built inside the traced step, so rates, momentum and weight decay may be traced values and never recompile; the structure
    of its state depends on `optimizer` and `trained` alone.

    Args:
        optimizer: its momentum and weight decay are taken from `hyper` instead.
        trained: names of the groups that train; the top level of the gradients.
        hyper: numbers of this update, `lr` [len(trained)].
        norm: `global_norm` of the gradients, a scalar.
    """
    groups = optax.multi_transform({g: optimizer.rule(hyper.lr[i], hyper) for i, g in enumerate(trained)}, {g: g for g in trained})
    if not (max_norm := optimizer.clip):
        return groups

    def clip(grads: Any, params: Any) -> Any:
        """Clip as `optax.clip_by_global_norm` does, which would compute the norm once more."""
        return jax.tree.map(lambda g: jnp.where(norm < max_norm, g, g / norm * max_norm), grads)

    return optax.chain(optax.stateless(clip), groups)


def is_bounded(optimizer: Optimizer) -> bool:
    """Return whether moderate gradients (`guard.is_moderate`) lead to finite parameters and slots, step by step.

    It is known of SGD, whose step is at most lr · |g| / (1 - momentum), and of AdamW, at most 1 / eps times that; not of a subclass with a
    rule of its own, nor of rules that divide by norms.
    """
    damped = not isinstance(optimizer, AdamW) or (optimizer.eps >= 1e-8 and optimizer.b2 <= 1 - 1e-6)
    return type(optimizer).rule in (Sgd.rule, AdamW.rule) and damped


def init(optimizer: Optimizer, trained: tuple[str, ...], params: Tree) -> optax.OptState:
    """Return fresh slots for the trained groups of `params`; frozen groups have none."""
    zeros, params = Hyper([0.0] * len(trained), 0.0, 0.0, 0.0), {g: params[g] for g in trained}
    slots = transformation(optimizer, trained, zeros, 0.0).init(params)
    return weight_ema.init(slots, params) if optimizer.ema else slots


def update(
    optimizer: Optimizer,
    trained: tuple[str, ...],
    hyper: Hyper,
    grads: Tree,
    opt_state: optax.OptState,
    params: Tree,
    norm: jax.Array | None = None,
) -> tuple[Tree, optax.OptState]:
    """Apply one update to the trained groups.

    Args:
        grads, params: trees over the trained groups.
        opt_state: from `init` or the previous update.
        norm: `global_norm(grads)` where it is known.

    Returns:
        (new parameters of the trained groups, new optimizer state).
    """
    slots = opt_state.slots if isinstance(opt_state, Averaged) else opt_state
    norm = global_norm(grads) if norm is None else norm
    with jax.numpy_dtype_promotion("standard"):  # optax raises Adam's b1, here a float32 array, to an integer power
        updates, slots = transformation(optimizer, trained, hyper, norm).update(grads, slots, params)
    params = cast(Tree, optax.apply_updates(params, updates))
    return params, weight_ema.update(optimizer.ema, opt_state, slots, params) if isinstance(opt_state, Averaged) else slots


def sam_perturbed(radius: float, grads: Tree, params: Tree) -> Tree:
    """Return the point of highest loss, to first order, within a radius: p + r · g / |g|, with the norm over all groups.

    Source: Foret et al. 2021.
    """
    norm = jnp.maximum(global_norm(grads), 1e-12)
    return jax.tree.map(lambda p, g: p + radius * g / norm, params, grads)
