"""The guard of an update: what is not finite is not applied."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees only in part.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core.state import Tree


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


type Rule = Callable[[Tree, Any, Tree], tuple[Tree, Any]]


def apply_if_finite(rule: Rule, grads: Tree, stats: Tree, before: Trained, loss: Array, wanted: bool | Array) -> tuple[Trained, Array]:
    """Apply an update if the loss and all that it leads to are finite; otherwise return `before`, bit for bit.

    Args:
        rule: the optimizer's (gradients, slots, parameters) → (parameters, slots).
        grads: gradients of the trained groups, the same on all devices.
        stats: statistics after the update.
        before: parameters, slots and statistics before it.
        loss: of the batch, a scalar.
        wanted: False returns `before` in any case.

    Returns:
        (parameters, slots and statistics after it, whether all of it was finite), the latter a boolean scalar.
    """
    if jax.default_backend() == "cpu" and not _multiplies(rule, grads, before):
        return _apply_in_place(rule, grads, stats, before, loss, wanted)
    # The barrier keeps what follows out of the arithmetic before it, whose roundings depend on what it is compiled with.
    loss, after = lax.optimization_barrier((loss, Trained(*rule(grads, before.opt_state, before.params), stats)))
    finite = all_finite((loss, after))
    # A barrier again, so that no selection computes these numbers anew.
    finite, applied = lax.optimization_barrier((finite, finite & wanted))
    return jax.tree.map(partial(jnp.where, applied), after, before), finite


def _multiplies(rule: Rule, grads: Tree, before: Trained) -> bool:
    """Return whether the rule multiplies matrices, as Muon's does: that takes too long to be done twice."""
    return "dot_general" in str(jax.make_jaxpr(rule)(grads, before.opt_state, before.params))


LARGE = 1 << 14
"""Numbers from which on an array is overwritten within a branch on a CPU. Smaller ones are too few to matter, and keep their roundings."""


def _apply_in_place(rule: Rule, grads: Tree, stats: Tree, before: Trained, loss: Array, wanted: bool | Array) -> tuple[Trained, Array]:
    """Compute large arrays twice: to be looked at, which writes next to nothing, and within a branch that overwrites the old ones.

    To keep the old ones until the new ones have been looked at, and select among them, takes three times the memory traffic. A GPU would
    wait for the host at a branch.
    """
    grads = jax.tree.map(lambda leaf: lax.optimization_barrier(leaf) if leaf.size >= LARGE else leaf, grads)
    after = Trained(*rule(grads, before.opt_state, before.params), stats)
    # The barriers are those of `apply_if_finite`.
    loss, small = lax.optimization_barrier((loss, _by_size(after)[0]))
    finite = _all_finite_at_once(loss, small, after)
    finite, applied = lax.optimization_barrier((finite, finite & wanted))
    old, old_large = _by_size(before)
    small = jax.tree.map(partial(jnp.where, applied), small, old)
    large = lax.cond(applied, lambda: _by_size(Trained(*rule(grads, before.opt_state, before.params), stats))[1], lambda: old_large)
    return jax.tree.unflatten(jax.tree.structure(before), [large.get(i, small.get(i)) for i in range(len(small) + len(large))]), finite


def _by_size(tree: Trained) -> tuple[dict[int, Array], dict[int, Array]]:
    """Return the small and the large arrays of a tree, by their places."""
    leaves = dict(enumerate(jax.tree.leaves(tree)))
    large = {i: leaf for i, leaf in leaves.items() if leaf.size >= LARGE}
    return {i: leaf for i, leaf in leaves.items() if i not in large}, large


def _all_finite_at_once(loss: Array, small: dict[int, Array], after: Trained) -> Array:
    """Return whether all small arrays are finite, and all large ones in the time that a CPU takes to read each of their numbers once.

    A parameter and its slots follow from the same numbers, so one kernel looks at all of them. XLA would write a mark for each number, and
    reduce the marks one by one; folded by nine they are reduced as vectors, while they are made.
    """
    params, alike = Counter(leaf.shape for leaf in jax.tree.leaves(after.params)), dict[tuple[int, ...], list[Array]]()
    for leaf in jax.tree.leaves(after):
        if leaf.size >= LARGE and jnp.issubdtype(leaf.dtype, jnp.floating):
            alike.setdefault(leaf.shape, []).append(_is_finite(leaf))
    # Slots come in the order of the parameters; were it another, this would only take longer.
    sets = [leaves[i::n] for shape, leaves in alike.items() for n in (params[shape] or len(leaves),) for i in range(n)]
    return reduce(jnp.logical_and, (_folded(reduce(jnp.logical_and, marks)) for marks in sets), all_finite((loss, small)))


MARKS = 1 << 12
"""Marks that are few enough to be reduced one by one."""


def _folded(marks: Array) -> Array:
    """Return whether all of many marks are set, folding them by nine or less."""
    marks = jnp.ravel(marks)
    while marks.size > MARKS and (folds := next((n for n in range(9, 1, -1) if marks.size % n == 0), 0)):
        marks = lax.optimization_barrier(jnp.all(marks.reshape(folds, -1), axis=0))  # without it XLA would reduce all at once
    return jnp.all(marks)


def all_finite(tree: Any) -> Array:
    """Return whether all numbers of a tree are finite and below half of the largest number of their dtype, a boolean scalar.

    So they are finite, too, where they are computed again with other roundings.

    Arrays of one shape are reduced together: a reduction of each alone would be most of the kernels of a small network's update.

    >>> all_finite({"a": jnp.zeros(3), "b": jnp.array([1.0, jnp.nan])}).tolist()
    False
    """
    alike: dict[tuple[int, ...], list[Array]] = {}
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            alike.setdefault(jnp.shape(leaf), []).append(_is_finite(leaf))
    return reduce(jnp.logical_and, (jnp.all(reduce(jnp.logical_and, leaves)) for leaves in alike.values()))


def _is_finite(leaf: Array) -> Array:
    return jnp.abs(leaf) < jnp.finfo(jnp.result_type(leaf)).max / 2
