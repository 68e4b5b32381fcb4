"""Heads that are solved instead of trained: the settings of `Stage.solve`."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import Config
from .validation import finite, require

WEIGHT_DECAYS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
"""Strengths that are compared, strongest first."""


@dataclass(frozen=True)
class Solve(Config):
    """Logistic regression on cached activations: the linear head that minimises loss + weight_decay / 2 · ‖kernel‖².

    The loss is the experiment's own, over all cached copies of all training images: with its label smoothing, class weights and expected
    oversampling, and one sigmoid per class for multi-label data. The activations are standardised, which becomes the head's batch
    normalisation. The optimum is unique; no learning rate, order or dropout enters it. Source: scikit-learn's LogisticRegression, whose C
    is 1 / (n · weight_decay).
    """

    weight_decay: float | tuple[float, ...] = WEIGHT_DECAYS
    """Strength of the ridge penalty on the kernel, the bias being free; of several, strongest first, cross-validation over the training
    images chooses the one with the lowest loss. It stops after two in a row that are worse than the best."""
    folds: int = 5
    """Parts of the training images that are held out in turn to compare strengths; all copies of an image are in one part."""

    def _label(self, name: str) -> str:
        return f"solve.{name}"

    def __post_init__(self) -> None:
        tried = self.weight_decay if isinstance(self.weight_decay, tuple) else (self.weight_decay,)
        positive = bool(tried) and all(finite(x) and x > 0 for x in tried)
        require(positive, "solve.weight_decay", self.weight_decay, "use a positive number, or several to choose from")
        require(
            list(tried) == sorted(set(tried), reverse=True), "solve.weight_decay", self.weight_decay, "give the strongest first, each once"
        )
        require(2 <= self.folds <= 100, "solve.folds", self.folds, "use 2…100")
