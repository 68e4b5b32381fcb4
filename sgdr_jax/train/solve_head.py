"""The solved head of a stage: logistic regression on its cached activations, its strength chosen by cross-validation over the images."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# The trees of `Devices.scatter` have no static type.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ..core.console import NullConsole
from ..core.plan import StagePlan
from ..core.state import TrainState, Tree
from ..core.validation import require
from ..data.sampler import Sampler, example_weights, expected_draws
from ..datasets.labels import counts, strata
from ..distributed.mesh import readable
from ..models.head import EPS
from .context import RunContext
from .logistic_regression import Minimum, Problem, losses, minimise, problem, standardise

CHOOSING, FINAL = 3e-4, 3e-5
"""Relative gradient norms at which minimisation stops: to compare strengths, and for the head itself. At 3e-3 the minimum of one strength
counted as that of all weaker ones, so the loss did not rise again: the weakest was chosen, and the body's first updates were violent."""
MOST_CHOOSING, MOST_FINAL = 200, 1_000
"""Largest numbers of passes over the activations for them."""
WORSE = 2
"""Strengths in a row, each weaker than the last, with a loss above the lowest after which the others are not tried."""


class Folds(NamedTuple):
    """Images of a cross-validation.

    Attributes:
        fits: bool [folds, n], images that a fold is solved on.
        judges: bool [folds, n], images held out of it, unless a class of theirs has no image in `fits`.
    """

    fits: np.ndarray
    judges: np.ndarray


def split_folds(labels: np.ndarray, folds: int, order: np.ndarray) -> Folds:
    """Split images into folds, those of a class (or rarest label) as evenly as possible.

    An image that would be judged without a training image of its class says nothing about strengths: its loss has no bound.

    Args:
        labels: int [n], or float [n, k] of zeros and ones.
        folds: number of parts; no more than images are made.
        order: a permutation of the images, which decides who comes into which fold.
    """
    n, folds = len(labels), min(folds, len(labels))
    classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    place = np.empty(n, np.int64)
    place[order[np.argsort(strata(labels)[order], kind="stable")]] = np.arange(n) % folds
    judges = place == np.arange(folds)[:, None]
    known = np.stack([counts(labels[~held], classes) > 0 for held in judges])
    judged = known[:, labels] if labels.ndim == 1 else ~((labels > 0)[None] & ~known[:, None]).any(axis=2)
    return Folds(~judges, judges & judged)


class Chosen(NamedTuple):
    """A strength chosen by cross-validation.

    Attributes:
        weight_decay: the strength.
        tried: strengths that were compared, in turn.
        losses: mean loss of the held-out images at each, without smoothing.
        start: mean of the folds' weights at the strength [1, d, k], close to those of all images.
        folds: weights of each fold at the strength [folds, d, k].
    """

    weight_decay: float
    tried: list[float]
    losses: list[float]
    start: jax.Array
    folds: jax.Array


def _unchosen(weight_decay: float, features: jax.Array, classes: int) -> Chosen:
    """Return a strength that was compared with no other; the solution starts from zero."""
    start = jnp.zeros((1, features.shape[1], classes), features.dtype)
    return Chosen(weight_decay, [], [], start, start)


def choose(p: Problem, tried: tuple[float, ...], fits: jax.Array, judges: jax.Array, classes: int) -> Chosen:
    """Choose the strength with the lowest loss of held-out images; each fold goes on from its minimum at the strength before.

    Args:
        p: the examples.
        tried: strengths, strongest first.
        fits: weight of each example in each fold [folds, n], of sum 1.
        judges: weight of its loss [folds, n], of sum 1 over all folds.
        classes: number of classes.
    """
    where = p.features.sharding
    place = NamedSharding(where.mesh, PartitionSpec()) if isinstance(where, NamedSharding) else None
    # Placed as results are, or the first strength would compile a program of its own.
    weights = jnp.zeros((len(fits), p.features.shape[1], classes), p.features.dtype, device=place)
    judged_losses: list[float] = []
    best, start, kept = 0, weights[:1], weights
    for decay in tried:
        weights = minimise(p, fits, decay, weights, CHOOSING, MOST_CHOOSING).weights
        judged_losses.append(float(np.sum(np.asarray(readable(losses(p, judges, weights)), np.float64))))
        if len(judged_losses) == 1 or judged_losses[-1] < judged_losses[best]:
            best, start, kept = len(judged_losses) - 1, jnp.mean(weights, axis=0, keepdims=True), weights
        if len(judged_losses) - 1 - best >= WORSE:
            break
    return Chosen(tried[best], list(tried[: len(judged_losses)]), judged_losses, start, kept)


def solver(
    context: RunContext, p: StagePlan, cached: jax.Array, log: Callable[[dict[str, Any]], None], ui: NullConsole
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """Return the only update of a solved stage, as `loop.StageCallbacks.update`: it replaces the head by the solution.

    Args:
        context: the run.
        p: the stage.
        cached: its activations, as by `Devices.spread`.
        log: receives a row with the strengths compared, the one chosen and the gradient reached.
        ui: shows the choice.
    """
    solve, experiment, labels = p.stage.solve, context.experiment, context.data.labels["train"]
    assert solve is not None
    classes, copies = len(context.data.classes), max(p.copies, 1)

    def rows(values: np.ndarray) -> jax.Array:
        """Put values of the images [..., n] on the devices, one for each row of `cached` [..., rows]: copies, then padding of zeros."""
        tiled = np.tile(values, copies)
        padded = np.pad(tiled, [(0, 0)] * (values.ndim - 1) + [(0, len(cached) - tiled.shape[-1])])
        kind = context.programs.precision if padded.dtype.kind == "f" else padded.dtype
        return context.programs.devices.scatter(padded.astype(kind), values.ndim - 1)

    def update(state: TrainState, *_: Any) -> tuple[TrainState, dict[str, Any]]:
        drawn = expected_draws(labels, experiment.balance, context.data.rates)
        weight = drawn * example_weights(labels, experiment.class_weights, context.data.rates, experiment.balance)
        features, mean, var = standardise(cached, rows(_shares(drawn, copies)), EPS)
        per_row = rows(labels) if labels.ndim == 1 else rows(labels.T).T
        data = problem(features, per_row, experiment.label_smoothing, rows(_shares(drawn, copies)), classes)
        if isinstance(solve.weight_decay, tuple):
            chosen = _choose(data, solve.weight_decay, weight)
        else:
            chosen = _unchosen(solve.weight_decay, features, classes)
        whole = rows(_shares(weight, copies)[None])
        minimum = minimise(data, whole, chosen.weight_decay, chosen.start, FINAL, MOST_FINAL)
        loss = float(losses(data, whole, minimum.weights, data.label_smoothing)[0])
        fix = "the layers before the head give values that are not finite; use compute=float32, or other weights"
        require(math.isfinite(loss), f'stage "{p.stage.name}": the loss of the solved head', loss, fix)
        _report(chosen, minimum)
        params, stats = as_head(minimum.weights[0], mean, var)
        state = context.programs.devices.hold(
            TrainState(state.step + 1, state.params | {"head": params}, state.stats | {"head": stats}, state.opt_state)
        )
        return state, {"loss": loss, "weight": 1.0, "skipped": 0.0}

    def _choose(data: Problem, tried: tuple[float, ...], weight: np.ndarray) -> Chosen:
        assert solve is not None
        folds = split_folds(labels, solve.folds, Sampler(experiment.seed, p.index, labels).order(0))
        if not folds.judges.any():
            middle = tried[len(tried) // 2]
            ui.say(f"  no class has two training images to compare weight decays by: {middle:g}, the middle of those to try")
            return _unchosen(middle, data.features, classes)
        judges = folds.judges * weight
        fits = np.stack([_shares(fit * weight, copies) for fit in folds.fits])
        return choose(data, tried, rows(fits), rows(judges / judges.sum() / copies), classes)

    def _report(chosen: Chosen, minimum: Minimum) -> None:
        gradient = float(minimum.gradient[0])
        log(
            {"kind": "solve", "step": 0, "weight_decay": chosen.weight_decay, "tried": chosen.tried, "losses": chosen.losses}
            | {"gradient": gradient, "evaluations": int(minimum.evaluations)}
        )
        among = f", of {len(chosen.tried)} by {len(chosen.folds)}-fold loss {min(chosen.losses):.4f}" if chosen.tried else ""
        ui.say(f"  solved with weight decay {chosen.weight_decay:g}{among}")
        if gradient > 1e-3:
            ui.say(f"  the solution is not exact: the gradient is {gradient:.1e} of the first; a higher solve.weight_decay helps")

    return update


def _shares(weight: np.ndarray, copies: int) -> np.ndarray:
    """Return weights of images as shares of all their copies, of sum 1 over these."""
    return weight / (weight.sum() * copies)


def as_head(weights: jax.Array, mean: jax.Array, var: jax.Array) -> tuple[Tree, Tree]:
    """Return parameters and statistics of the linear head (`models.head.Head` without hidden layer) with these weights [d + 1, k]."""
    params = {
        "bn2": {"scale": jnp.ones_like(mean), "bias": jnp.zeros_like(mean)},
        "linear2": {"kernel": weights[:-1], "bias": weights[-1]},
    }
    return params, {"bn2": {"mean": mean, "var": var}}
