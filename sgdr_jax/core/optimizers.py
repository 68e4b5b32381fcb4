"""Optimizers and their hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, field

from .validation import finite, require


@dataclass(frozen=True)
class Optimizer:
    """How gradients become updates; the learning rate belongs to the stage."""

    ema: float = field(default=0.0, kw_only=True)
    """Decay of a moving average of the weights, 0…1, kept beside the final network and compared with it; 0 for none."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum: v ← m·v + g, p ← p - lr·v, with coupled weight decay (g ← g + wd·p), as in torch."""

    momentum: float = 0.9
    """Share of the previous update direction that is kept, 0…1."""
    nesterov: bool = False
    """Look ahead along the momentum."""
    weight_decay: float = 0.0
    """Decay of weight matrices and kernels; biases and normalisation are never decayed."""
    clip: float | None = None
    """Largest global norm of the gradients; None for no limit."""
    sam: float = 0.0
    """Sharpness-aware minimisation: the gradient is taken where the loss is highest within this radius (0.05 is usual), at twice the
    cost; 0: off. Source: Foret et al. 2021."""

    def __post_init__(self) -> None:
        _check_optimizer(self)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (p ← p - lr·wd·p). Source: Loshchilov & Hutter 2019."""

    momentum: float = 0.9
    """Decay of the first moment (b1), 0…1."""
    b2: float = 0.999
    """Decay of the second moment, 0…1."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decay of weight matrices and kernels; biases and normalisation are never decayed."""
    clip: float | None = None
    """Largest global norm of the gradients; None for no limit."""
    sam: float = 0.0
    """Sharpness-aware minimisation: the gradient is taken where the loss is highest within this radius (0.05 is usual), at twice the
    cost; 0: off. Source: Foret et al. 2021."""

    def __post_init__(self) -> None:
        _check_optimizer(self)
        require(0 <= self.b2 < 1, "optimizer.b2", self.b2, "use a number in 0…1, below 1")
        require(finite(self.eps) and self.eps > 0, "optimizer.eps", self.eps, "use a positive number")


@dataclass(frozen=True)
class Lamb(AdamW):
    """AdamW whose step is scaled, array by array, to the norm of the weights; for large batches. Source: You et al. 2020."""

    eps: float = 1e-6
    """Added to the root of the second moment."""


@dataclass(frozen=True)
class Muon(AdamW):
    """Orthogonalised momentum for matrices; AdamW with Nesterov's look ahead for everything else, kernels of convolutions too.

    Source: Jordan et al. 2024; optax.contrib.muon.
    """

    iterations: int = 5
    """Newton-Schulz iterations, at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.iterations >= 1, "optimizer.iterations", self.iterations, "use at least 1")


def _check_optimizer(optimizer: Sgd | AdamW) -> None:
    require(finite(optimizer.sam) and optimizer.sam >= 0, "optimizer.sam", optimizer.sam, "use 0 (off) or a positive radius")
    require(0 <= optimizer.momentum < 1, "optimizer.momentum", optimizer.momentum, "use a number in 0…1, below 1")
    require(0 <= optimizer.ema < 1, "optimizer.ema", optimizer.ema, "use a number in 0…1, below 1")
    require(
        finite(optimizer.weight_decay) and optimizer.weight_decay >= 0, "optimizer.weight_decay", optimizer.weight_decay, "use 0 or more"
    )
    require(
        optimizer.clip is None or (finite(optimizer.clip) and optimizer.clip > 0),
        "optimizer.clip",
        optimizer.clip,
        "use a positive number or None",
    )
