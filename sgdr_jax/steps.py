"""The pure functions that get compiled: one training update, and running a part of the network.

A network is run as frozen prefix → trained rest, so no backward pass exists below the lowest trained group, and the same compiled
prefix serves head training, the activation cache and evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from . import metrics, optim
from .config import Optimizer
from .models.chain import Network
from .state import Hyper, TrainState, Tree


@dataclass(frozen=True)
class Step:
    """One training update as a pure function; its fields are what is static about it.

    Attributes:
        network: the chain of layer groups.
        optimizer: update rule.
        trained: groups that are differentiated and updated.
        collects: groups whose batch normalisation uses batch statistics and updates the running ones.
        dtype: of the network's arithmetic.
        axis: name of the mapped axis that the batch is split over; None where the batch is whole, as far as this program knows. What
            the devices must agree on is then said here: gradients, sums, batch statistics. Frozen groups communicate nothing.
    """

    network: Network
    optimizer: Optimizer
    trained: tuple[str, ...]
    collects: tuple[str, ...]
    dtype: Any = jnp.float32
    axis: str | None = None

    def over(self, axis: str) -> Step:
        """The same update for one device's part of the batch."""
        return replace(self, axis=axis)

    def total(self, tree: Any) -> Any:
        """Sums over all parts of the batch."""
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
        """The state after one update, and sums over the batch.

        Args:
            state: before the update.
            hyper: rates and the like of this update.
            x: activations that enter the lowest trained group [b, ...]; images in 0…1 when that is the first group.
            labels: int32 [b], or float32 [b, classes] for multi-label data; `metrics.Mixed` where images are mixed.
            weight: [b]; an example of weight 0 does not count.
            key: dropout key of the stage; the step is folded in here.

        Returns:
            (new state, sums as in `metrics.sums`).
        """
        key = jax.random.fold_in(key, state.step)
        count = jnp.maximum(self.total(jnp.sum(weight)), 1)

        def loss(trained: Tree) -> tuple[Array, tuple[Array, Tree]]:
            logits, stats = self.network.apply(
                state.params | trained,
                state.stats,
                x,
                start=self.trained[0],
                train=self.trained,
                collect=self.collects,
                key=key,
                dtype=self.dtype,
                axis=self.axis,
            )
            # The loss subtracts the largest logit; its gradient compares, so the logits must be computed once only.
            logits = jax.lax.optimization_barrier(logits)
            losses = metrics.losses(logits, labels, hyper.label_smoothing)
            return jnp.sum(losses * weight) / count, (logits, stats)

        trained = {g: state.params[g] for g in self.trained}
        grads, (logits, stats) = jax.grad(loss, has_aux=True)(trained)
        grads, sums = self.total((grads, metrics.sums(logits, labels, weight, hyper.label_smoothing)))
        trained, opt_state = optim.update(self.optimizer, self.trained, hyper, grads, state.opt_state, trained)
        state = TrainState(state.step + 1, state.params | trained, state.stats | stats, opt_state)
        return state, sums


def forward(
    network: Network, params: Tree, stats: Tree, x: Float[Array, "b ..."], *, start: str | None, stop: str | None, dtype: Any
) -> Array:
    """Runs a part of the network on stored statistics, dropout off, nothing collected.

    Args:
        x: what enters the group `start` [b, ...]; images in 0…1 when that is None (the first).
        stop: the first group that does not run, or None to run to the end.

    Returns:
        Activations [b, ...] at `stop`, or float32 logits [b, classes].
    """
    return network.apply(params, stats, x, start=start, stop=stop, dtype=dtype)[0]
