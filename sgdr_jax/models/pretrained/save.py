"""Writes networks as weight files with timm's names: the inverse of `load`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.validation import require
from ..base import ChainModel
from .load import Place

EPS = 1e-5
"""Epsilon of the head's batch normalisation, `head.EPS`, whose module needs jax."""


class TimmWeights(NamedTuple):
    """A network under timm's names.

    Attributes:
        tensors: name to array, in torch's layout.
        classifier: name of the classifier's module.
        pool: `global_pool` of `timm.create_model`.
        layers: widths of the classifier's linear layers, from its input to the number of classes; a ReLU lies between two.
    """

    tensors: dict[str, np.ndarray]
    classifier: str
    pool: str
    layers: tuple[int, ...]


def timm_weights(model: ChainModel, params: Mapping[str, Any], stats: Mapping[str, Any]) -> TimmWeights:
    """Return a network's tensors under timm's names.

    The concat-pool head becomes linear layers with ReLU between: in evaluation its batch normalisations are affine and are folded into
    them, W ← diag(a)·W and b ← b + (bias - a·mean)·W with a = scale / √(var + ε). timm's "catavgmax" pooling has the mean first, ours the
    maximum.

    Args:
        model: of the network.
        params: its parameters.
        stats: its statistics.

    Raises:
        InputError: timm has no such architecture, or its classifier can not be that head.
    """
    from ..head import ConcatPool

    name, kind = model.architecture(), type(model).__name__
    require(bool(name), "model", kind, "timm has no network with these tensors; export it to stablehlo")
    new = model.head == "new"
    fix = "timm has a layer between pooling and classifier, which its concatenated pooling does not fit; export it to stablehlo"
    require(not new or (model.after_pool() is None and not name.startswith("vgg")), "model", kind, fix)
    fix = "timm has no pooling that joins class token and mean; export it to stablehlo"
    require(not new or isinstance(model.new_pool(), ConcatPool), "model", kind, fix)
    leaves = _leaves(params) | _leaves(stats)
    tensors = {theirs: _torch(leaves[place]) for theirs, place in timm_names(model).items() if place in leaves}
    classifier = next(part for part in model.classifier if not part.startswith("_"))
    if not new:
        weight = tensors[f"{classifier}.weight"]
        tensors[f"{classifier}.weight"] = weight.reshape(weight.shape[0], -1)
        return TimmWeights(tensors, classifier, model.pooling, (weight.shape[1], weight.shape[0]))
    linear = folded_head(params["head"], stats["head"])
    inner = [classifier] if len(linear) == 1 else [f"{classifier}.{2 * i}" for i in range(len(linear))]
    for module, (kernel, bias) in zip(inner, linear, strict=True):
        tensors |= {f"{module}.weight": np.ascontiguousarray(kernel.T), f"{module}.bias": bias}
    return TimmWeights(tensors, classifier, "catavgmax", (linear[0][0].shape[0], *(len(bias) for _, bias in linear)))


def timm_names(model: ChainModel) -> dict[str, Place]:
    """Map timm's name of every tensor to its place; of the names of a place, timm's comes first and has no part with a leading _.

    Example:
        >>> from sgdr_jax.models import EfficientNetLite0
        >>> next(iter(timm_names(EfficientNetLite0(weights=None)).items()))
        ('conv_stem.weight', ('stem', 'kernel'))
    """
    names: dict[Place, str] = {}
    for theirs, place in model.names().items():
        if not any(part.startswith("_") for part in theirs.split(".")):
            names.setdefault(place, theirs)
    return {theirs: place for place, theirs in names.items()}


def folded_head(params: Mapping[str, Any], stats: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the concat-pool head as linear layers (kernel [inputs, outputs], bias) for pooled features with the mean first."""
    layers = []
    for i in (1, 2):
        if f"linear{i}" in params:
            bn, linear = params[f"bn{i}"], params[f"linear{i}"]
            mean, var = (np.asarray(stats[f"bn{i}"][k], np.float64) for k in ("mean", "var"))
            scale = np.asarray(bn["scale"], np.float64) / np.sqrt(var + EPS)
            kernel = np.asarray(linear["kernel"], np.float64)
            bias = np.asarray(linear["bias"], np.float64) + (np.asarray(bn["bias"], np.float64) - scale * mean) @ kernel
            layers.append((scale[:, None] * kernel, bias))
    first, bias = layers[0]
    half = len(first) // 2
    layers[0] = (np.concatenate([first[half:], first[:half]]), bias)
    return [(kernel.astype(np.float32), bias.astype(np.float32)) for kernel, bias in layers]


def write_tensors(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write tensors as a safetensors file, marked as torch's as timm expects."""
    from safetensors.numpy import save_file

    save_file(dict(tensors), path, metadata={"format": "pt"})


def _leaves(tree: Mapping[str, Any]) -> dict[Place, np.ndarray]:
    """Return the leaves of all groups by their place, without the group, but with "head"."""
    import jax

    leaves: dict[Place, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree)):
        group, *inside = (key.key for key in path)
        leaves[("head", *inside) if group == "head" else tuple(inside)] = np.asarray(leaf, np.float32)
    return leaves


def _torch(array: np.ndarray) -> np.ndarray:
    """Convert our layouts to torch's: convolutions HWIO to OIHW, linear layers [inputs, outputs] to [outputs, inputs]."""
    if array.ndim == 3:  # tokens [1, n, c] are the same in both
        return array
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
