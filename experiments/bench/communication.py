"""What the devices of a run say to each other, read from the compiled programs: collective operations and their bytes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from sgdr_jax.core.experiment import Parallel, Stage
from sgdr_jax.core.optimizers import Optimizer, Sgd
from sgdr_jax.core.plan import trained_groups
from sgdr_jax.core.state import Hyper, TrainState
from sgdr_jax.distributed.mesh import devices
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.chain import Network
from sgdr_jax.schedules import Constant
from sgdr_jax.train import optim
from sgdr_jax.train.steps import TrainStep

_OPERATION = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
_ARRAY = re.compile(r"([a-z]+)(\d*)\[([\d,]*)\]")


class Traffic(NamedTuple):
    """What an update communicates.

    Attributes:
        parameters: bytes of the parameters that train.
        reduced: bytes of the results of its all-reduces, on each device.
        other: bytes of the results of all other collective operations.
        operations: number of collective operations.
    """

    parameters: int
    reduced: int
    other: int
    operations: int


def collectives(program: str) -> list[tuple[str, int]]:
    """The collective operations in the text of a compiled program, each with the bytes of its result on one device.

    >>> collectives("%a = (f32[2,3]{1,0}, f32[]) all-reduce(%x, %y), to_apply=%add")
    [('all-reduce', 28)]
    """
    found = []
    for line in program.splitlines():
        if match := _OPERATION.search(line):
            found.append((match[2], sum(_bytes(*array) for array in _ARRAY.findall(match[1]))))
    return found


def _bytes(kind: str, bits: str, sides: str) -> int:
    return math.prod(int(side) for side in sides.split(",") if side) * (int(bits) // 8 if bits else 1)


def update(
    network: Network, optimizer: Optimizer, trained: tuple[str, ...], size: int, batch: int, parallel: Parallel, dtype: Any = np.float32
) -> Any:
    """The lowered update of a network for a batch of images [batch, size, size, channels]; nothing is run.

    Args:
        trained: groups that train, without gaps up to the head.
        parallel: over which devices.
        dtype: of the network's arithmetic.
    """
    mesh, start = devices(parallel), trained[0]
    shapes = [{g: network.shapes[g][i] for g in network.groups} for i in (0, 1)]
    slots = jax.eval_shape(lambda params: optim.init(optimizer, trained, params), shapes[0])
    begins: Any = jax.ShapeDtypeStruct((), np.int32)
    state: Any = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=mesh.home(x.shape)), TrainState(begins, shapes[0], shapes[1], slots)
    )
    images = jax.ShapeDtypeStruct((batch, size, size, len(network.mean)), np.float32)
    x = images if start == network.groups[0] else jax.eval_shape(lambda p, s, x: network.apply(p, s, x, stop=start)[0], *shapes, images)
    split = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=mesh.split) for a in (x, *_labels(batch))]
    zero = np.float32(0)
    hyper = Hyper(np.zeros(len(trained), np.float32), zero, zero, zero)
    return mesh.compile_step(TrainStep(network, optimizer, trained, trained, dtype)).lower(state, hyper, *split, jax.random.key(0))


def _labels(batch: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    return jax.ShapeDtypeStruct((batch,), np.int32), jax.ShapeDtypeStruct((batch,), np.float32)


def traffic(
    model: ChainModel, train: int | str | tuple[str, ...], parallel: Parallel, *, classes: int = 10, size: int = 32, batch: int = 16
) -> Traffic:
    """What one update of a stage that trains `train` (as `Stage.train`) communicates, from its compiled program."""
    network = replace(model, weights=None).build(classes)
    trained = trained_groups(Stage("only", train=train, schedule=Constant()), network.groups)
    found = collectives(update(network, Sgd(), trained, size, batch, parallel).compile().as_text())
    parameters = sum(leaf.size * leaf.dtype.itemsize for g in trained for leaf in jax.tree.leaves(network.shapes[g][0]))
    reduced = sum(count for name, count in found if name == "all-reduce")
    return Traffic(parameters, reduced, sum(count for _, count in found) - reduced, len(found))
