"""Pure functions to compile: a training update, and the forward pass of a part of the network.

A network runs as a frozen prefix and a trained rest: there is no backward pass below the lowest trained group, and the same compiled
prefix serves head training, the activation cache and evaluation.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core.optimizers import Optimizer
from ..core.state import Hyper, TrainState, Tree
from ..evaluation import metrics
from ..models.chain import Modes, Network
from ..models.layers import in_slices
from . import optim
from .guard import Trained, apply_if_finite, is_moderate
from .reductions import global_norm


@dataclass(frozen=True)
class TrainStep:
    """A training update as a pure function; the fields are its static part.

    Attributes:
        network: the chain of layer groups.
        optimizer: the optimizer.
        trained: groups that are differentiated and updated.
        collects: groups whose batch normalisation uses batch statistics and updates the running ones.
        dtype: dtype of the network's arithmetic.
        accumulate: parts in which the batch passes through the network, one after the other.
        axis: name of the mapped axis that the batch is split over; gradients, sums and batch statistics are then reduced over it. None
            if the program sees the whole batch.
    """

    network: Network
    optimizer: Optimizer
    trained: tuple[str, ...]
    collects: tuple[str, ...]
    dtype: Any = jnp.float32
    accumulate: int = 1
    axis: str | None = None
    batch_axis: ClassVar[int] = 0

    def over(self, axis: str) -> TrainStep:
        """Return the update of one device's part of the batch."""
        return replace(self, axis=axis)

    def total(self, tree: Any) -> Any:
        """Sum over all parts of the batch."""
        return tree if self.axis is None else jax.lax.psum(tree, self.axis)

    def __call__(
        self,
        state: TrainState,
        hyper: Hyper,
        x: Float[Array, "b ..."],
        labels: Array | metrics.Mixed,
        weight: Float[Array, " b"],
        key: Key[Array, ""],
        wanted: bool | Array = True,
    ) -> tuple[TrainState, dict[str, Array]]:
        """Apply one update, or skip it: if the loss, a gradient or what follows is not finite (`guard`), all but the step stays as it is.

        Args:
            state: state before the update.
            hyper: numbers of this update.
            x: input of the lowest trained group [b, ...]; images in 0…1 if that is the first group.
            labels: int32 [b], or float32 [b, classes] for multi-label data; `metrics.Mixed` for mixed images.
            weight: weight of each example [b], which `Mixed.weight` multiplies; examples of weight 0 do not count.
            key: dropout key of the stage; the step is folded in here.
            wanted: False computes the sums and leaves the whole state as it is, the step too; boolean scalar.

        Returns:
            (new state, sums over the batch as in `metrics.sums`, and "skipped": 1 if nothing was applied).
        """
        if isinstance(labels, metrics.Mixed):
            weight = weight * labels.weight
        batch, total_weight = (x, labels, weight), self.total(jnp.sum(weight))
        total_weight = jnp.where(total_weight > 0, total_weight, 1)

        def loss_fn(params: Tree, stats: Tree, x: Array, labels: Any, weight: Array, key: Array) -> tuple[Array, tuple[Array, Tree]]:
            """Return a part's share of the batch's mean loss, its logits, and the statistics after it."""
            modes = Modes(train=self.trained, collect=self.collects, key=key, axis=self.axis)
            logits, stats = self.network.apply(state.params | params, stats, x, start=self.trained[0], modes=modes, dtype=self.dtype)
            # The gradient of the largest logit compares logits with it, so they must be computed only once.
            logits = jax.lax.optimization_barrier(logits)
            return jnp.sum(metrics.losses(logits, labels, hyper.label_smoothing) * weight) / total_weight, (logits, stats)

        grad_fn, key = jax.grad(loss_fn, has_aux=True), jax.random.fold_in(key, state.step)
        params, stats, grads, sums = {g: state.params[g] for g in self.trained}, state.stats, None, None
        for i in range(self.accumulate):
            # Parts are strided, so that each device has its share of every part.
            xs, ys, ws = batch if self.accumulate == 1 else jax.tree.map(lambda a, i=i: a[i :: self.accumulate], batch)
            part = (stats, xs, ys, ws, jax.random.fold_in(key, i) if i else key)
            part_grads, (logits, part_stats) = grad_fn(params, *part)
            if radius := self.optimizer.sam:
                part_grads, _ = grad_fn(optim.sam_perturbed(radius, self.total(part_grads), params), *part)
            part_sums, stats = metrics.sums(logits, ys, ws, hyper.label_smoothing), stats | part_stats
            grads, sums = (part_grads, part_sums) if grads is None else jax.tree.map(jnp.add, (grads, sums), (part_grads, part_sums))
        grads, sums = self.total((grads, sums))
        old_stats, new_stats = ({g: tree[g] for g in self.collects if g in tree} for tree in (state.stats, stats))
        # The barrier keeps what follows out of the arithmetic before it, whose roundings depend on what it is compiled with.
        grads, sums, new_stats = jax.lax.optimization_barrier((grads, sums, new_stats))
        norm = global_norm(grads)
        update = partial(optim.update, self.optimizer, self.trained, hyper, grads, norm=norm)
        moderate = is_moderate(norm, hyper, self.optimizer.clip) if optim.is_bounded(self.optimizer) else None
        # Gradients, sums and statistics are those of all devices, so that all of them skip the same updates.
        before = Trained(params, state.opt_state, old_stats)
        after, finite = apply_if_finite(update, new_stats, before, sums["loss"], wanted, moderate)
        skipped = jnp.where(finite, jnp.zeros_like(sums["loss"]), jnp.ones_like(sums["loss"]))
        step = state.step + jnp.asarray(wanted, state.step.dtype)
        return TrainState(step, state.params | after.params, state.stats | after.stats, after.opt_state), sums | {"skipped": skipped}


def forward(
    network: Network, params: Tree, stats: Tree, x: Float[Array, "b ..."], *, start: str | None, stop: str | None, dtype: Any
) -> Array:
    """Run a part of the network on stored statistics and without dropout.

    Args:
        x: input of the group `start` [b, ...]; images in 0…1 if that is None (the first).
        stop: first group that does not run; None to run to the end.

    Returns:
        Activations [b, ...] at `stop`, or float32 logits [b, classes].
    """
    groups = network.groups[network.groups.index(start) if start else 0 : network.groups.index(stop) if stop else None]
    for name, after in itertools.pairwise((*groups, stop)):
        run = partial(network.apply, params, stats, start=name, stop=after, dtype=dtype)
        # Activations of images have many times their bytes, those of later groups hardly more than their inputs.
        x = in_slices(lambda x, run=run: run(x)[0], x, 2 if name == network.groups[0] else 8)
    return x
