"""Arrays that training carries from step to step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax

type Tree = dict[str, Any]
"""Nested dicts of arrays whose top level is keyed by layer group."""


class TrainState(NamedTuple):
    """State of a stage between two updates.

    Attributes:
        step: int32 scalar, updates applied in this stage; the only clock.
        params: parameters of all groups, float32.
        stats: running batch statistics of all groups, float32.
        opt_state: optimizer slots, for the trained groups only.
    """

    step: jax.Array
    params: Tree
    stats: Tree
    opt_state: Any

    def network(self, size: int) -> NetworkState:
        """Return the network alone, as trained at `size`."""
        return NetworkState(self.params, self.stats, size)


class Hyper(NamedTuple):
    """Numbers of one update; arrays, so that other values never recompile.

    Attributes:
        lr: float32 [trained groups].
        momentum: float32 scalar.
        weight_decay: float32 scalar.
        label_smoothing: float32 scalar.
    """

    lr: Any
    momentum: Any
    weight_decay: Any
    label_smoothing: Any


class NetworkState(NamedTuple):
    """Parameters and batch statistics between stages, and the size in pixels they were last trained at."""

    params: Tree
    stats: Tree
    size: int
