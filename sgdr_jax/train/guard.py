"""Guard of an update: skips it unless the loss, the gradients and everything computed from them are finite."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees only in part.

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core.state import Hyper, Tree
from .reductions import all_finite


class Trained(NamedTuple):
    """What an update changes.

    Attributes:
        params: parameters of the trained groups.
        opt_state: optimizer slots.
        stats: batch statistics of the groups that update them.
    """

    params: Tree
    opt_state: Any
    stats: Tree


type Update = Callable[[Any, Tree], tuple[Tree, Any]]


def apply_if_finite(
    update: Update, stats: Tree, before: Trained, loss: Array, wanted: bool | Array, moderate: Array | None = None
) -> tuple[Trained, Array]:
    """Apply an update if the loss and all that it leads to are finite; otherwise return `before`, bit for bit.

    Args:
        update: the optimizer's (slots, parameters) → (parameters, slots), the same on all devices.
        stats: statistics after the update.
        before: parameters, slots and statistics before it.
        loss: of the batch, a scalar.
        wanted: False returns `before` in any case.
        moderate: `is_moderate`, for a bounded rule: whether parameters and slots will be finite. None to compute them, test each number,
            and select, which takes three times the memory traffic.

    Returns:
        (parameters, slots and statistics after it, whether all of it was finite), the latter a boolean scalar.
    """

    def updated() -> Trained:
        return Trained(*update(before.opt_state, before.params), stats)

    # The barriers keep numbers from being computed anew where they are needed, with the roundings of what they are compiled with.
    if moderate is None:
        after = lax.optimization_barrier(updated())
        finite = all_finite((loss, after))
    else:
        after, finite = None, moderate & all_finite((loss, stats))
    finite, applied = lax.optimization_barrier((finite, finite & wanted))
    if after is None and jax.default_backend() == "cpu":
        # Overwrites the old numbers; of a selection XLA makes copies. A GPU would wait for the host at a branch.
        return lax.cond(applied, updated, lambda: before), finite
    return jax.tree.map(partial(jnp.where, applied), updated() if after is None else after, before), finite


def is_moderate(norm: Array, hyper: Hyper, clip: float | None = None) -> Array:
    """Return whether gradients and rates are so moderate that a bounded rule (`optim.is_bounded`) leads to finite numbers.

    This holds if |g| ≤ 1e12 after clipping, lr ≤ 1e6, wd ≤ 1e6, lr · wd ≤ 1 and momentum < 1 in its dtype: averages of gradients stay
    below 1e20 and a step below 1e34, a ten-thousandth of the largest number. Weight decay at a constant rate does not enlarge; under
    Nesterov's momentum it would from lr · wd = 4/3 on. At rates that leap it may, over hundreds of updates; the next loss then is not
    finite.

    Args:
        norm: of the gradients of all groups, a scalar.
        hyper: numbers of the update.
        clip: norm to which larger gradients are shortened, or None.

    Returns:
        A boolean scalar.
    """
    lr, decay = jnp.max(hyper.lr), hyper.weight_decay
    max_norm = float(jnp.finfo(norm.dtype).max) if clip and clip <= 1e12 else 1e12  # what is clipped must have a norm all the same
    return (norm <= max_norm) & (lr <= 1e6) & (decay <= 1e6) & (lr * decay <= 1) & (hyper.momentum < 1)
