"""What several test files share: a network that compiles in about a second, an experiment around it, and a count of compilations."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from hypothesis import settings

from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Experiment, Parallel, Stage
from sgdr_jax.core.optimizers import Optimizer, Sgd
from sgdr_jax.core.state import Hyper, TrainState
from sgdr_jax.core.types import Dataset
from sgdr_jax.data.sampler import expected_draws
from sgdr_jax.distributed.mesh import Devices, devices
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.chain import Network
from sgdr_jax.runs import run
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train import optim
from sgdr_jax.train.stage import StageRun
from sgdr_jax.train.stage_inputs import TrainBatch
from sgdr_jax.train.steps import TrainStep

seeded = settings(derandomize=True, deadline=None)
"""The same examples in every run, however slow the machine."""

GROUPS = ("early", "late", "head")
CLASSES = 3
SIDE = 8
SGD = Sgd()


class Said(NullConsole):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: object) -> None:
        self.lines.append(str(text))


def expected_counts(labels: np.ndarray, balance: float, rates: np.ndarray | None = None) -> np.ndarray:
    """The average number of examples of each class in an epoch of `Sampler`; each counts for all its labels."""
    draws = expected_draws(labels, balance, rates)
    return np.bincount(labels, draws) if labels.ndim == 1 else draws @ labels.astype(np.float64)


@dataclass(frozen=True)
class Tiny(ChainModel):
    """Two convolutions with batch normalisation and the smallest real head (BN, dropout, linear): groups early, late, head."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("second",)
    hidden: int = 0

    imagenet: ClassVar = "package:no-such-package"
    classifier: ClassVar = ("fc",)
    features: ClassVar = 5
    mean: ClassVar = (0.4, 0.5, 0.6)
    std: ClassVar = (0.3, 0.2, 0.25)

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("first", "second")

    def modules(self, channels: int) -> dict[str, Any]:
        from jax.nn import relu

        from sgdr_jax.models.blocks import ConvBN

        first = ConvBN(3, channels, 4, eps=1e-5, stride=2, padding=1, activation=relu)
        return {"first": first, "second": ConvBN(3, 4, 5, eps=1e-5, padding=1)}


@dataclass(frozen=True)
class Nowhere(Dataset):
    """A dataset that is never opened."""

    root: Path = Path("nowhere")
    extra: Path | None = None


def experiment(*stages: Stage, **fields: Any) -> Experiment:
    """An experiment of these stages (by default one) with the tiny network."""
    stages = stages or (Stage("only", lr=0.1, schedule=Sgdr(2)),)
    return Experiment(**{"name": "test", "data": Nowhere(), "model": Tiny(), "batch_size": 8} | fields, stages=stages)


@cache
def network() -> Network:
    return Tiny().build(CLASSES)


def host_state(seed: int = 0) -> tuple[Any, Any]:
    """Parameters and statistics of the tiny network as NumPy arrays, none of them at a value that hides a mistake (0 or 1)."""
    rng = np.random.default_rng(seed)

    def shake(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return (leaf + 0.2 * rng.uniform(-1, 1, leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(shake, network().init(jax.random.key(seed)))


def batch(seed: int = 0, n: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images float32 0…1 [n, 8, 8, 3], labels int32 [n], weights 1 [n]."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 1, (n, SIDE, SIDE, 3)).astype(np.float32)
    return images, rng.integers(0, CLASSES, n).astype(np.int32), np.ones(n, np.float32)


def hyper(*lr: float, momentum: float = 0.9, weight_decay: float = 0.0, label_smoothing: float = 0.0) -> Hyper:
    """The numbers of one update as the loop gives them: NumPy float32."""
    return Hyper(np.asarray(lr, np.float32), np.float32(momentum), np.float32(weight_decay), np.float32(label_smoothing))


@cache
def on(count: int) -> Devices:
    """The first `count` devices."""
    return devices(Parallel(devices=count))


@cache
def program(
    trained: tuple[str, ...], collects: tuple[str, ...], count: int = 1, optimizer: Optimizer = SGD, dtype: Any = np.float32
) -> Callable[..., Any]:
    """The compiled training step of the tiny network; compiled once for all tests."""
    return on(count).compile_step(TrainStep(network(), optimizer, trained, collects, dtype))


def fresh(trained: tuple[str, ...], count: int = 1, optimizer: Optimizer = SGD) -> TrainState:
    """The first state of a stage, on the devices."""
    params, stats = host_state()
    return on(count).replicate(TrainState(np.int32(0), params, stats, optim.init(optimizer, trained, params)))


def same_bits(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure, dtypes, shapes and bytes (so NaN equals NaN, and 0 differs from -0)."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The messages of all XLA compilations inside the block."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Finished XLA compilation" in record.getMessage():
                found.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield found
    finally:
        logger.removeHandler(handler)


class Killed(Exception):
    """Ends a run as a kill would: nothing is saved on the way out."""


def single_update(stage: StageRun, state: TrainState, row: Hyper, batch: TrainBatch) -> tuple[TrainState, dict[str, Any]]:
    """Apply one update with the numbers of one row, scalars and lr [n], whatever number the stage dispatches at once."""
    state, sums = stage.update(state, Hyper(*(np.asarray(value)[None] for value in row)), [batch])
    return state, sums if stage.span == 1 else {name: each[0] for name, each in sums.items()}


@contextmanager
def killed_after(updates: int) -> Iterator[None]:
    """Kill the run inside, which must not end by itself, instead of the span that would exceed so many updates."""
    count, real = 0, run.open_stage

    def fragile(*args: Any) -> Any:
        stage = real(*args)

        def several(state: Any, hyper: Any, feds: Any) -> Any:
            nonlocal count
            count += len(feds)
            if count > updates:
                raise Killed
            return stage.update(state, hyper, feds)

        return stage._replace(update=several)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run, "open_stage", fragile)
        yield
