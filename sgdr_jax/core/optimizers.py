"""Optimizers: frozen dataclasses that hold their hyperparameters and build their own update rule."""

# optax has no stubs, but its functions are annotated.
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .kinds import Config
from .validation import finite, require

if TYPE_CHECKING:
    import jax
    import optax

    from .state import Hyper, Tree


@dataclass(frozen=True)
class Optimizer(Config):
    """Base class of optimizers, which turn gradients into updates; the learning rate belongs to the stage.

    To add one, subclass it as a frozen dataclass with a `rule`. Clipping, sharpness-aware minimisation and the moving average work with
    every rule.
    """

    momentum: float = 0.9
    """Decay of the average of past gradients (b1 in Adam), 0…1, below 1."""
    weight_decay: float = field(default=0.0, kw_only=True)
    """Decay of weight matrices and kernels; biases, normalisation, tokens and their positions are never decayed."""
    clip: float | None = field(default=None, kw_only=True)
    """Largest global norm of the gradients; None for no limit."""
    sam: float = field(default=0.0, kw_only=True)
    """Radius of sharpness-aware minimisation (0.05 is usual), which takes the gradient where the loss is highest within that radius, at
    twice the cost; 0 for none. Source: Foret et al. 2021."""
    ema: float = field(default=0.0, kw_only=True)
    """Decay of a moving average of the weights, 0…1, kept beside the final network and compared with it; 0 for none."""

    def _label(self, name: str) -> str:
        return f"optimizer.{name}"

    def __post_init__(self) -> None:
        decay, clip = self.weight_decay, self.clip
        require(finite(self.sam) and self.sam >= 0, "optimizer.sam", self.sam, "use 0 (off) or a positive radius")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "use a number in 0…1, below 1")
        require(0 <= self.ema < 1, "optimizer.ema", self.ema, "use a number in 0…1, below 1")
        require(finite(decay) and decay >= 0, "optimizer.weight_decay", decay, "use 0 or more")
        require(clip is None or (finite(clip) and clip > 0), "optimizer.clip", clip, "use a positive number or None")

    def rule(self, lr: jax.Array, hyper: Hyper) -> optax.GradientTransformation:
        """Build the update rule of one layer group.

        It is built inside the traced update, so the numbers of an update may change without a new compilation.

        Args:
            lr: learning rate of the group, scalar.
            hyper: numbers of the update; its momentum and weight decay replace this object's own, which schedules may change.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum: v ← m·v + g, p ← p - lr·v, with coupled weight decay (g ← g + wd·p), as in torch."""

    nesterov: bool = False
    """Whether to look ahead along the momentum."""

    def rule(self, lr: jax.Array, hyper: Hyper) -> optax.GradientTransformation:
        import optax

        decay = optax.add_decayed_weights(hyper.weight_decay, mask=_matrices)
        return optax.chain(decay, optax.sgd(lr, momentum=hyper.momentum, nesterov=self.nesterov))


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (p ← p - lr·wd·p). Source: Loshchilov & Hutter 2019."""

    b2: float = 0.999
    """Decay of the second moment, 0…1, below 1."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = field(default=0.01, kw_only=True)
    """Decay of weight matrices and kernels; biases, normalisation, tokens and their positions are never decayed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.b2 < 1, "optimizer.b2", self.b2, "use a number in 0…1, below 1")
        require(finite(self.eps) and self.eps > 0, "optimizer.eps", self.eps, "use a positive number")

    def rule(self, lr: jax.Array, hyper: Hyper) -> optax.GradientTransformation:
        import optax

        return optax.adamw(lr, b1=hyper.momentum, b2=self.b2, eps=self.eps, weight_decay=hyper.weight_decay, mask=_matrices)


@dataclass(frozen=True)
class Lamb(AdamW):
    """AdamW with the step of each array scaled to the norm of its weights, for large batches. Source: You et al. 2020."""

    eps: float = 1e-6
    """Added to the root of the second moment."""

    def rule(self, lr: jax.Array, hyper: Hyper) -> optax.GradientTransformation:
        import optax

        return optax.lamb(lr, b1=hyper.momentum, b2=self.b2, eps=self.eps, weight_decay=hyper.weight_decay, mask=_matrices)


@dataclass(frozen=True)
class Muon(AdamW):
    """Orthogonalised momentum for matrices; AdamW with Nesterov's look-ahead for everything else, kernels of convolutions included.

    Source: Jordan et al. 2024; optax.contrib.muon.
    """

    iterations: int = 5
    """Newton-Schulz iterations, at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.iterations >= 1, "optimizer.iterations", self.iterations, "use at least 1")

    def rule(self, lr: jax.Array, hyper: Hyper) -> optax.GradientTransformation:
        import optax.contrib

        steps = optax.contrib.muon(
            lr,
            ns_steps=self.iterations,
            beta=hyper.momentum,
            eps=self.eps,
            adam_b1=hyper.momentum,
            adam_b2=self.b2,
        )
        # optax's own decay has no mask where Muon does not apply.
        return optax.chain(steps, optax.add_decayed_weights(-lr * hyper.weight_decay, _matrices))


def _matrices(params: Tree) -> Tree:
    """Mark what weight decay applies to: matrices and kernels.

    Biases, normalisation (arrays of one dimension), tokens and positions (arrays [1, n, c]) are spared.
    """
    import jax

    def is_matrix(p: jax.Array) -> bool:
        return p.ndim in (2, 4)

    return jax.tree.map(is_matrix, params)
