"""Pure functions to compile: a training update, several in a row, and the forward pass of a part of the network.

A network runs as a frozen prefix and a trained rest: there is no backward pass below the lowest trained group, and the same compiled
prefix serves head training, the activation cache and evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core.optimizers import Optimizer
from ..core.state import Hyper, TrainState, Tree
from ..evaluation import metrics
from ..models.chain import Network
from . import optim


@dataclass(frozen=True)
class Step:
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
    count: ClassVar[int] = 1

    def over(self, axis: str) -> Step:
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
    ) -> tuple[TrainState, dict[str, Array]]:
        """Apply one update.

        Args:
            state: state before the update.
            hyper: numbers of this update.
            x: input of the lowest trained group [b, ...]; images in 0…1 if that is the first group.
            labels: int32 [b], or float32 [b, classes] for multi-label data; `metrics.Mixed` for mixed images.
            weight: weight of each example [b]; examples of weight 0 do not count.
            key: dropout key of the stage; the step is folded in here.

        Returns:
            (new state, sums over the batch as in `metrics.sums`).
        """
        key = jax.random.fold_in(key, state.step)
        trained, stats = {g: state.params[g] for g in self.trained}, state.stats
        whole, grads, total = jnp.maximum(self.total(jnp.sum(weight)), 1), None, None
        for part in range(self.accumulate):  # strided, so that each device has its share of every part
            xs, ys, ws = self._part(part, (x, labels, weight))
            of_part = partial(self._loss, state.params, stats, hyper, xs, ys, ws, whole, jax.random.fold_in(key, part) if part else key)
            new, (logits, changed) = jax.grad(of_part, has_aux=True)(trained)
            if radius := self.optimizer.sam:
                new, _ = jax.grad(of_part, has_aux=True)(optim.sharpest(radius, self.total(new), trained))
            sums, stats = metrics.sums(logits, ys, ws, hyper.label_smoothing), stats | changed
            grads, total = (new, sums) if grads is None else jax.tree.map(jnp.add, (grads, total), (new, sums))
        assert grads is not None and total is not None
        grads, total = self.total((grads, total))
        trained, opt_state = optim.update(self.optimizer, self.trained, hyper, grads, state.opt_state, trained)
        return TrainState(state.step + 1, state.params | trained, stats, opt_state), total

    def _part(self, part: int, tree: Any) -> Any:
        return tree if self.accumulate == 1 else jax.tree.map(lambda a: a[part :: self.accumulate], tree)

    def _loss(
        self, params: Tree, stats: Tree, hyper: Hyper, x: Array, labels: Any, weight: Array, whole: Array, key: Array, trained: Tree
    ) -> tuple[Array, tuple[Array, Tree]]:
        """Return the loss of a part of a batch of total weight `whole`, its logits, and the statistics after it."""
        logits, stats = self.network.apply(
            params | trained,
            stats,
            x,
            start=self.trained[0],
            train=self.trained,
            collect=self.collects,
            key=key,
            dtype=self.dtype,
            axis=self.axis,
        )
        # The gradient of the largest logit compares logits with it, so they must be computed only once.
        logits = jax.lax.optimization_barrier(logits)
        return jnp.sum(metrics.losses(logits, labels, hyper.label_smoothing) * weight) / whole, (logits, stats)


@dataclass(frozen=True)
class Scanned:
    """`count` consecutive updates as one program, with the numbers of single updates.

    Of the arguments of `Step`, hyper, x, labels and weight have a further first axis [count], and so have the sums.
    """

    step: Step
    count: int
    batch_axis: ClassVar[int] = 1

    @property
    def trained(self) -> tuple[str, ...]:
        """Groups that are differentiated and updated."""
        return self.step.trained

    def over(self, axis: str) -> Scanned:
        """Return the updates of one device's part of the batches."""
        return replace(self, step=self.step.over(axis))

    def __call__(
        self, state: TrainState, hyper: Hyper, x: Array, labels: Any, weight: Array, key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """Apply all updates; return the last state and the sums of each update."""
        return jax.lax.scan(lambda now, given: self.step(now, *given, key), state, (hyper, x, labels, weight))


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
    return network.apply(params, stats, x, start=start, stop=stop, dtype=dtype)[0]
