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

from ..core.state import Tree
from .base import ChainModel
from .layers import portable
from .pretrained.tags import RESTRICTED, repository, sources, tags


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


class WeightsRow(TypedDict):
    """Published weights of a network under their tag; see `pretrained.tags.Tag`.

    `megabytes` is the size of their file in float32, in 10⁶ bytes, `default` whether the class starts from them.
    """

    model: str
    tag: str
    default: bool
    megabytes: float
    classes: int
    size: int
    crop: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top1: float | None
    top1_size: int | None
    license: str


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
        "weights": _default(model) or "none",
    }


def weights_rows(name: str, model: ChainModel) -> list[WeightsRow]:
    """Return the recorded weights of a network, the most accurate on ImageNet first."""
    known = tags(model.architecture())
    body = _elements(model, 1) - (model.features + 1)
    rows: list[WeightsRow] = [
        {
            "model": name,
            "tag": tag,
            "default": _default(model).endswith(f"/{model.architecture()}.{tag}"),
            "megabytes": round(4e-6 * (body + (model.features + 1) * facts.classes), 1),
            "classes": facts.classes,
            "size": facts.size,
            "crop": facts.crop,
            "interpolation": facts.interpolation,
            "mean": facts.mean,
            "std": facts.std,
            "top1": facts.top1,
            "top1_size": facts.top1_size,
            "license": facts.license,
        }
        for tag, facts in known.items()
    ]
    return sorted(rows, key=lambda row: (-(row["top1"] or 0), row["tag"]))


def _default(model: ChainModel) -> str:
    """Return the repository of the weights that the class of a network starts from, or the package; "" for random ones."""
    tag = type(model).weights
    return model.imagenet.removeprefix("hf-hub:") if tag == "imagenet" else repository(model.architecture(), tag) if tag else ""


def _elements(model: ChainModel, classes: int) -> int:
    """Return the number of values in a network's weights file, with its own classifier."""
    network = replace(model, weights=None).build(classes, reference=True)
    return sum(leaf.size for leaf in jax.tree.leaves(dict(network.shapes)))


def weights_table(rows: Sequence[WeightsRow]) -> tuple[Table, list[str]]:
    """Format weights for the terminal, with lines that explain their images, licences and sources once.

    Columns with the same value in every row are left to these lines.
    """
    pairs = sorted({(row["mean"], row["std"]) for row in rows})
    images = {pair: _IMAGES.get(pair[0], f"kind {i}") for i, pair in enumerate(pairs, 1)}
    filters = sorted({row["interpolation"] for row in rows})
    columns: dict[str, list[str]] = {"model": [row["model"] for row in rows]} if len({row["model"] for row in rows}) > 1 else {}
    columns["tag"] = [row["tag"] + " *" * row["default"] for row in rows]
    columns["MB"] = [f"{row['megabytes']:.0f}" for row in rows]
    columns["classes"] = [str(row["classes"] or "") for row in rows]
    columns["px"] = [str(row["size"]) for row in rows]
    columns["crop"] = [f"{row['crop']:g}" for row in rows]
    columns |= {"filter": [row["interpolation"] for row in rows]} if len(filters) > 1 else {}
    columns |= {"images": [images[row["mean"], row["std"]] for row in rows]} if len(pairs) > 1 else {}
    columns["top-1"] = [_top1(row) for row in rows]
    columns["licence"] = [_licence(row["license"]) for row in rows]
    printed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        number = name in ("MB", "classes", "px", "crop", "top-1")
        printed.add_column(name, justify="right" if number else "left", no_wrap=name != "licence", overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        printed.add_row(*cells)
    lines = ['* the default; under the name "imagenet", where a network has it, plain images are whole and bilinear']
    lines *= any(row["default"] for row in rows)
    lines += [f"filter: {name}" for name in filters if len(filters) == 1]
    lines += [f"images {images[pair]}: mean {_numbers(pair[0])}, sd {_numbers(pair[1])}" for pair in pairs]
    lines += [f"{_licence(name)}: {RESTRICTED[name]}" for name in sorted({row["license"] for row in rows}) if name in RESTRICTED]
    lines.append(f"top-1: percent of the ImageNet-1k validation images, at @ px: {sources()['accuracies']}")
    return printed, [*lines, f"all else: {sources()['facts']}"]


def _top1(row: WeightsRow) -> str:
    if row["top1"] is None:
        return ""
    return f"{row['top1']:.1f}" + (f" @{row['top1_size']}" if row["top1_size"] != row["size"] else "")


def _licence(name: str) -> str:
    return name.removesuffix("-license") or "not named"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


_IMAGES: Mapping[tuple[float, ...], str] = {
    (0.485, 0.456, 0.406): "imagenet",
    (0.5, 0.5, 0.5): "half",
    (0.48145466, 0.4578275, 0.40821073): "clip",
}
"""Names of the usual means of pixels."""


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
