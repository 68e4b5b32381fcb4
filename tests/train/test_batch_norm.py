"""Measured batch statistics: against float64 NumPy, whatever the batch size, the order and the statistics before."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

from sgdr_jax import Eval, Experiment, Stage
from sgdr_jax.core.state import NetworkState
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import ResNet18
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.chain import Modes
from sgdr_jax.schedules import Constant
from sgdr_jax.train.batch_norm import drift, recalibrate
from sgdr_jax.train.context import prepare

from ..helpers import Tiny, host_state

DATA = Synthetic(classes=3, train=23, valid=9, side=8)


def context(model: ChainModel = Tiny(), batch: int = 8, size: int = 8, data: Any = DATA):  # noqa: B008
    stage = Stage("only", size=size, lr=0.1, schedule=Constant(1), augment=False)
    return prepare(Experiment("test", data, model, (stage,), batch_size=8, evaluate=Eval(batch_size=batch, tta_views=0), canvas=size))


def conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """3×3 convolution with one zero around, in float64."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = (x.shape[1] - 3) // stride + 1, (x.shape[2] - 3) // stride + 1
    parts = [x[:, i : i + stride * h : stride, j : j + stride * w : stride] @ kernel[i, j] for i in range(3) for j in range(3)]
    return np.sum(parts, axis=0)


def reference(x: np.ndarray, params: Any) -> Any:
    """The statistics of the tiny network on images 0…1 [n, 8, 8, 3]: the whole set as one batch, layer by layer, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    found = {}

    def norm(name: str, x: np.ndarray, weights: Any, eps: float) -> np.ndarray:
        axes = tuple(range(x.ndim - 1))
        found[name] = {"mean": x.mean(axes), "var": x.var(axes)}
        return (x - x.mean(axes)) / np.sqrt(x.var(axes) + eps) * weights["scale"] + weights["bias"]

    x = (x - np.array([0.4, 0.5, 0.6])) / np.array([0.3, 0.2, 0.25])
    first, second, head = params["early"]["first"], params["late"]["second"], params["head"]
    x = np.maximum(norm("first", conv(x, first["kernel"], 2), first["bn"], 1e-5), 0)
    x = norm("second", conv(x, second["kernel"], 1), second["bn"], 1e-5)
    norm("head", np.concatenate([x.max((1, 2)), x.mean((1, 2))], -1), head["bn2"], 1e-5)
    return {"early": {"first": {"bn": found["first"]}}, "late": {"second": {"bn": found["second"]}}, "head": {"bn2": found["head"]}}


def close(found: Any, wanted: Any, tolerance: float = 2e-6) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, wanted)


def test_the_statistics_are_those_of_float64_numpy():
    ready = context()
    params, stats = ready.programs.devices.replicate(host_state())
    wanted = reference(np.asarray(ready.data.images["train"][:], np.float64) / 255, params)
    close(recalibrate(ready, NetworkState(params, stats, 8)), wanted)
    close(recalibrate(ready, NetworkState(params, stats, 8), memory=0), wanted)  # everything computed from the images each time


def test_batch_size_and_statistics_before_change_nothing(monkeypatch):
    params, stats = host_state()
    first = context()
    whole = recalibrate(first, NetworkState(*first.programs.devices.replicate((params, stats)), 8))
    monkeypatch.setattr("sgdr_jax.train.batch_norm.CHUNK", 12)
    other = context(batch=4)
    found = recalibrate(other, NetworkState(*other.programs.devices.replicate((params, jax.tree.map(lambda x: 3 * x + 1, stats))), 8))
    close(found, whole, 1e-6)


def test_only_the_groups_asked_for_are_measured():
    ready = context()
    params, stats = ready.programs.devices.replicate(host_state())
    found = recalibrate(ready, NetworkState(params, stats, 8), groups=("late",))
    for group in ("early", "head"):
        jax.tree.map(np.testing.assert_array_equal, found[group], stats[group])
    moved = drift(stats, found)
    assert moved["early"] == moved["head"] == [0, 0] and min(moved["late"]) > 0.01


@dataclass(frozen=True)
class Short(ResNet18):
    """A residual network of few channels would do; this one has the real blocks, two of them with a `down` branch."""


@pytest.mark.slow
def test_a_residual_network_is_measured_as_one_batch_of_all_images_normalises():
    """Normalising with the statistics of the batch is what training does: with the whole set as the batch it gives the wanted values."""
    data = Synthetic(classes=3, train=16, valid=9, side=32)
    ready = context(Short(weights=None), 16, 32, data)
    params, stats = ready.network.params, ready.network.stats
    found = recalibrate(ready, NetworkState(params, stats, 32))
    network, x = ready.programs.network, ready.data.images["train"][:].astype(np.float32) / 255
    collected = network.apply(params, jax.tree.map(lambda leaf: 0 * leaf, stats), x, modes=Modes(collect=network.groups))[1]

    def same(path: Any, a: Any, b: Any) -> None:
        # What training collects after one batch: a tenth of the mean, and of the variance with n - 1.
        np.testing.assert_allclose(a, np.asarray(b) / 0.1, rtol=0.1 if path[-1].key == "var" else 2e-4, atol=2e-4)

    jax.tree_util.tree_map_with_path(same, found, collected)


def test_drift_is_the_root_mean_square_over_channels():
    before = {"a": {"bn": {"mean": np.zeros(2), "var": np.array([1.0, 4.0]) - 1e-3}}, "b": {}}
    after = {"a": {"bn": {"mean": np.array([3.0, 8.0]), "var": np.array([np.e**2, 4.0]) - 1e-3}}, "b": {}}
    np.testing.assert_allclose(drift(before, after)["a"], [np.sqrt((9 + 16) / 2), np.sqrt(0.5)])
    assert drift(before, after).keys() == {"a"}
