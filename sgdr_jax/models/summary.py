"""Summary of a network: parameters, multiply-adds and output shapes of every block, computed from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np
from jax import Array
from rich import box
from rich.table import Table

from .base import ChainModel
from .chain import Tree
from .layers import portable


class BlockSummary(NamedTuple):
    """One block of a network.

    Attributes:
        name: in the chain; the last one is "head", here the network's own classifier of 1000 classes.
        parameters: number of trainable parameters, without running statistics.
        macs: multiply-adds of convolutions and matrix products for one image.
        output: output shape for one image, (height, width, channels), or (features,) after pooling.
    """

    name: str
    parameters: int
    macs: int
    output: tuple[int, ...]


class ModelRow(TypedDict):
    """One network in the table of all: `parameters` of the body, `macs` of the whole network with its own classifier."""

    model: str
    parameters: int
    macs: int
    size: int
    features: int
    blocks: int
    groups: str
    weights: str


def blocks(model: ChainModel, size: int | None = None) -> tuple[BlockSummary, ...]:
    """Summarize the blocks of a network for one RGB image of `size` pixels a side; None for the side that its weights were trained with.

    >>> from sgdr_jax.models import ResNet18
    >>> blocks(ResNet18())[1]
    BlockSummary(name='layer1.block0', parameters=73984, macs=231211008, output=(56, 56, 64))
    """
    network = replace(model, weights=None, head="classifier", cuts=model.blocks[1:]).build(1000)
    x = jax.ShapeDtypeStruct((1, size or model.size, size or model.size, 3), np.float32)
    rows = []
    for name, stop in zip(network.groups, (*network.groups[1:], None), strict=True):
        params, stats = network.shapes[name]

        def run(params: Tree, stats: Tree, x: Array, name: str = name, stop: str | None = stop) -> Array:
            return network.apply({name: params}, {name: stats}, x, start=name, stop=stop)[0]

        with portable():
            traced, x = jax.make_jaxpr(run, return_shape=True)(params, stats, x)
        rows.append(BlockSummary(name, sum(leaf.size for leaf in jax.tree.leaves(params)), sum(multiply_adds(traced.jaxpr)), x.shape[1:]))
    return tuple(rows)


def multiply_adds(jaxpr: Any) -> Iterator[int]:
    """Iterate over the multiply-adds of each convolution and matrix product of a traced function, including the functions it calls."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            yield math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
        elif name == "dot_general":
            left, ((contracted, _), _) = equation.invars[0].aval.shape, equation.params["dimension_numbers"]
            yield math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        else:
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from multiply_adds(inner)


def row(name: str, model: ChainModel, size: int | None = None) -> ModelRow:
    """Summarize one network as a row of the table of all."""
    *body, head = blocks(model, size)
    return {
        "model": name,
        "parameters": sum(block.parameters for block in body),
        "macs": sum(block.macs for block in body) + head.macs,
        "size": size or model.size,
        "features": model.features,
        "blocks": len(body),
        "groups": ", ".join(f"{group}: {_span(names)}" for group, names in model.split().items()),
        "weights": model.imagenet.removeprefix("hf-hub:") or "none",
    }


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}–{names[-1]}"


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Format rows for the terminal, without the columns that would not fit: parameters in millions, multiply-adds in billions."""
    units = {"parameters": ("M params", 1e6), "macs": ("GMACs", 1e9)}
    names = [name for name in rows[0] if name not in ("blocks", "groups")]
    printed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        numbers = isinstance(rows[0][name], int)
        printed.add_column(units.get(name, (name,))[0], justify="right" if numbers else "left", no_wrap=name != "weights", overflow="fold")
    for row in rows:
        printed.add_row(*(f"{row[name] / units[name][1]:.2f}" if name in units else str(row[name]) for name in names))
    return printed
