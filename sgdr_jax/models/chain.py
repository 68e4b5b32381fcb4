"""The computing half of a model: a chain of layer groups as pure functions of plain trees. NNX modules exist only inside."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from .blocks import Mode, Sequential
from .precision import full_products, precision

Tree = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Network:
    """A network as pure functions. Trees are nested plain dicts whose top level are the names of the groups.

    Attributes:
        groups: names of the layer groups from input to output; the last is "head".
        mean: float32, one per channel of the first convolution: images 0…1 become (x - mean) / std when the first group runs.
        std: likewise. A grey image is repeated over the channels by this.
        graphs: group name to the NNX graph that its trees are put back into.
        shapes: group name to the trees of its parameters and statistics as shapes.
    """

    groups: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    graphs: Mapping[str, Any]
    shapes: Mapping[str, tuple[Tree, Tree]]

    def init(self, key: Array, groups: Sequence[str] | None = None) -> tuple[Tree, Tree]:
        """Random parameters and fresh statistics, of all groups or of those named: He-normal kernels (sd² = 2 / fan-in), scales and
        variances 1, layer scales 1e-6, all else 0.

        A kernel's values depend on the key and the kernel's own name, not on the cuts or on other kernels. They are drawn on the host,
        where nothing has to be compiled for it, so this cannot be traced; `shapes` has what jax.eval_shape would give.
        Source: He et al. 2015.
        """
        words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        params, stats = (
            {name: jax.tree_util.tree_map_with_path(partial(_initial, words), self.shapes[name][i]) for name in groups or self.groups}
            for i in (0, 1)
        )
        return params, stats

    def normalised(self, mean: Sequence[float], std: Sequence[float]) -> Network:
        """This network for images of another mean and sd: one value for each channel of the first convolution, or fewer that repeat."""
        return replace(self, **{k: np.resize(np.array(v, np.float32), len(self.mean)) for k, v in (("mean", mean), ("std", std))})

    def apply(
        self,
        params: Mapping[str, Tree],
        stats: Mapping[str, Tree],
        x: Array,
        *,
        start: str | None = None,
        stop: str | None = None,
        train: tuple[str, ...] = (),
        collect: tuple[str, ...] = (),
        measure: tuple[str, ...] = (),
        key: Array | None = None,
        dtype: Any = jnp.float32,
        axis: str | None = None,
    ) -> tuple[Array, Tree]:
        """Runs the groups from `start` (the first if None) up to but excluding `stop` (None: to the end) and gives output and statistics.

        Args:
            params: parameters of at least the groups that run.
            stats: their running statistics; the ones given come back, those of the groups in `collect` updated, all others as they are.
            x: images float 0…1 [b, h, w, channels], or activations at the boundary before `start`.
            start, stop: names of groups.
            train: groups that run with dropout.
            collect: groups that normalise with batch statistics and update the running ones; all others use the stored ones.
            measure: groups whose statistics come back as those of each example, float32 [b, c]; they normalise with the stored ones.
            key: for dropout; needed if a group that has dropout is in `train`.
            dtype: of the body's arithmetic; pooled activations, head and logits are float32.
            axis: name of the mapped axis that the batch is split over; collected statistics are then those of the whole batch.

        Returns:
            float32 logits [b, classes] if the end is reached; pooled float32 activations [b, 2 · features] before the head;
            otherwise activations [b, h', w', c] in `dtype`.

        Raises:
            ValueError: for names of groups that do not exist, or dropout without a key.
        """
        for name in (*train, *collect, *measure, *(name for name in (start, stop) if name is not None)):
            if name not in self.groups:
                raise ValueError(f"no group {name!r}; there are {', '.join(self.groups)}")
        if "head" in train and key is None:
            raise ValueError('dropout needs a key: pass key= when "head" is in train')
        first = 0 if start is None else self.groups.index(start)
        last = len(self.groups) if stop is None else self.groups.index(stop)
        if first == 0 < last:
            x = (x.astype(precision(dtype)) - self.mean) / self.std
        stats = dict(stats)
        for position in range(first, last):
            name = self.groups[position]
            x = x.astype(precision(dtype) if name == "head" else dtype)
            # What is collected is put in the place of the statistics, which must be arrays that jax can replace.
            group = nnx.merge(self.graphs[name], params[name], jax.tree.map(jnp.asarray, stats[name]))
            drop = jax.random.fold_in(key, position) if key is not None and name in train else None
            with full_products():
                x = group(x, Mode(name in collect, drop, name in measure, axis))
            if name in collect or name in measure:
                stats[name] = nnx.to_pure_dict(nnx.state(group, nnx.BatchStat))
        return x, stats


def network(groups: Mapping[str, Mapping[str, Any]], mean: np.ndarray, std: np.ndarray) -> Network:
    """The network of these groups of modules; a group {"": module} is that module itself."""
    graphs, shapes = {}, {}
    for name, blocks in groups.items():
        graph, params, stats = nnx.split(blocks[""] if "" in blocks else Sequential(blocks), nnx.Param, nnx.BatchStat)
        graphs[name] = graph
        trees = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
        shapes[name] = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trees)
    return Network(tuple(groups), mean, std, graphs, shapes)


def _initial(words: list[int], path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> np.ndarray:
    leaf = path[-1].key
    if leaf != "kernel":
        return np.full(shape.shape, {"scale": 1, "var": 1, "gamma": 1e-6}.get(leaf, 0), shape.dtype)
    name = "/".join(part.key for part in path)
    rng = np.random.default_rng([*words, zlib.crc32(name.encode())])
    fan_in = int(np.prod(shape.shape[:-1]))
    return rng.standard_normal(shape.shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
