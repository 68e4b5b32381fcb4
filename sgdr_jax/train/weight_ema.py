"""Exponential moving average of the trained weights, carried beside the optimizer's slots."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..core.state import Tree


class Averaged(NamedTuple):
    """Optimizer slots with a moving average of the weights.

    Attributes:
        slots: state of the optimizer.
        params: average of the trained groups.
        count: int32 scalar, updates so far.
    """

    slots: Any
    params: Tree
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride] - hides tuple.count, as its checkpoints are named so


def init(slots: Any, params: Tree) -> Averaged:
    """Start the average at the weights of the trained groups."""
    # A copy: the weights are donated too, and no buffer may be donated twice.
    return Averaged(slots, jax.tree.map(jnp.array, params), jnp.int32(0))


def averaged(opt_state: Any) -> Tree:
    """Return the average of the trained groups' weights if `Optimizer.ema` asks for one, else an empty tree."""
    return opt_state.params if isinstance(opt_state, Averaged) else {}


def update(decay: float, before: Averaged, slots: Any, params: Tree) -> Averaged:
    """Move the average towards new weights: average ← d·average + (1 - d)·weights with d = min(decay, (1 + t) / (10 + t)).

    t counts the updates before this one, so the first weights are soon forgotten. Written as average + (1 - d)·(weights - average), the
    average of constant weights stays exact; `optax.incremental_update` rounds d·average and (1 - d)·weights each by itself.
    Source: TensorFlow's ExponentialMovingAverage.

    Args:
        decay: `Optimizer.ema`.
        slots: state of the optimizer after the update.
        params: weights of the trained groups after the update.
    """
    t = before.count.astype(jnp.float32)
    d = jnp.minimum(jnp.float32(decay), (1 + t) / (10 + t))
    mean = jax.tree.map(lambda a, p: a + (1 - d) * (p - a), before.params, params)
    return Averaged(slots, mean, before.count + 1)
