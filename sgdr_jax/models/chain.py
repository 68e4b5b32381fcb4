"""The computing half of a model: a chain of layer groups as pure functions of plain trees. NNX modules stay inside."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import DTypeLike

from ..augment.plain import WHOLE, PlainView
from ..core.state import Tree
from .blocks import Mode, Sequential
from .precision import full_products, precision

EMBEDDINGS = ("embedding", "token", "registers", "latent")
"""Names of parameters that are tokens, or added to tokens."""


class Modes(NamedTuple):
    """How the groups of a network run; by default all in evaluation mode.

    Attributes:
        train: groups that run with dropout.
        collect: groups that normalise with batch statistics and update the running ones; all others use the stored ones.
        measure: groups that return the statistics of each example, float32 [b, c]; they normalise with the stored ones.
        key: for dropout; required if a group with dropout is in `train`.
        axis: name of the mapped axis that the batch is split over; collected statistics are then those of the whole batch.
    """

    train: tuple[str, ...] = ()
    collect: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()
    key: Array | None = None
    axis: str | None = None

    def of(self, name: str, position: int) -> Mode:
        """Return the mode of one group, `position` being its index in the chain."""
        key = jax.random.fold_in(self.key, position) if self.key is not None and name in self.train else None
        return Mode(name in self.collect, key, name in self.measure, self.axis)


EVALUATE = Modes()


class Maps(NamedTuple):
    """Where class activation maps are taken.

    Attributes:
        block: name of the block whose input they are taken from; "pool" is the pooling.
        prefix: number of tokens before those of the patches, where that input is tokens [b, prefix + side · side, c].
    """

    block: str = "pool"
    prefix: int = 0


@dataclass(frozen=True, eq=False)
class Network:
    """A network as pure functions. Trees are nested plain dicts whose top-level keys are the names of the groups.

    Attributes:
        groups: names of the layer groups from input to output; the last is "head".
        mean: float32, one per channel of the first convolution: images 0…1 become (x - mean) / std when the first group runs.
        std: likewise. A grey image is repeated over the channels by this.
        graphs: group name to the NNX graph that its trees are merged into.
        shapes: group name to its parameters and statistics as trees of shapes.
        maps: where class activation maps are taken.
        plain: how plain images are made for it.
    """

    groups: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    graphs: Mapping[str, nnx.GraphDef]
    shapes: Mapping[str, tuple[Tree, Tree]]
    maps: Maps
    plain: PlainView = WHOLE

    def init(self, key: Array, groups: Sequence[str] | None = None) -> tuple[Tree, Tree]:
        """Initialize the parameters and statistics of all groups, or of the named ones.

        Kernels are He-normal (sd² = 2 / fan-in), tokens and their positions normal with sd 0.02, scales and variances 1, layer scales 1e-6,
        logarithms of scales log 10, everything else 0. A kernel's values depend on the key and the kernel's own name, not on the cuts or on
        other kernels. They are drawn on the host, without compiling anything, so this cannot be traced; `shapes` holds what jax.eval_shape
        would return. Source: He et al. 2015.
        """
        words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        params, stats = (
            {name: jax.tree_util.tree_map_with_path(partial(_initial, words), self.shapes[name][i]) for name in groups or self.groups}
            for i in (0, 1)
        )
        return params, stats

    def normalised(self, mean: Sequence[float], std: Sequence[float], plain: PlainView = WHOLE) -> Network:
        """Return this network for images of another mean and sd: one value per channel of the first convolution, or fewer that repeat.

        Args:
            mean, std: of images 0…1.
            plain: how plain images are made.
        """
        values = {k: np.resize(np.array(v, np.float32), len(self.mean)) for k, v in (("mean", mean), ("std", std))}
        return replace(self, **values, plain=plain)

    def apply(
        self,
        params: Mapping[str, Tree],
        stats: Mapping[str, Tree],
        x: Array,
        *,
        start: str | None = None,
        stop: str | None = None,
        modes: Modes = EVALUATE,
        dtype: DTypeLike = jnp.float32,
    ) -> tuple[Array, Tree]:
        """Run the groups from `start` up to but excluding `stop`.

        Args:
            params: parameters of at least the groups that run.
            stats: their running statistics.
            x: images float 0…1 [b, h, w, channels], or activations at the boundary before `start`.
            start: first group; None for the beginning of the chain.
            stop: group to stop before; None for the end of the chain.
            modes: which groups train, collect and measure statistics.
            dtype: of the body's arithmetic; pooled activations, head and logits are float32.

        Returns:
            Output and statistics. The output is float32 logits [b, classes] at the end of the chain, pooled float32 activations
            [b, 2 · features] before the head, otherwise activations [b, h', w', c] or tokens [b, n, c] in
            `dtype`. The statistics are `stats` with those of
            the groups in `collect` and `measure` replaced.

        Raises:
            ValueError: for names of groups that do not exist, or dropout without a key.
        """
        for name in (*modes.train, *modes.collect, *modes.measure, *(name for name in (start, stop) if name is not None)):
            if name not in self.groups:
                raise ValueError(f"no group {name!r}; there are {', '.join(self.groups)}")
        if "head" in modes.train and modes.key is None:
            raise ValueError('dropout needs a key: pass Modes(key=) when "head" is in train')
        first = 0 if start is None else self.groups.index(start)
        last = len(self.groups) if stop is None else self.groups.index(stop)
        if first == 0 < last:
            x = (x.astype(precision(dtype)) - self.mean) / self.std
        stats = dict(stats)
        for position in range(first, last):
            name = self.groups[position]
            x = x.astype(precision(dtype) if name == "head" else dtype)
            # New statistics replace these in place, so they must be arrays of jax.
            group = nnx.merge(self.graphs[name], params[name], jax.tree.map(jnp.asarray, stats[name]))
            mode = modes.of(name, position)
            with full_products():
                x = group(x, mode)
            if mode.collect or mode.measure:
                stats[name] = nnx.to_pure_dict(nnx.state(group, nnx.BatchStat))
        return x, stats

    def at_maps(self, params: Mapping[str, Tree], stats: Mapping[str, Tree]) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """Return the network in two float32 parts in evaluation mode, cut where class activation maps are taken; see `Maps`.

        Returns:
            (images 0…1 [b, h, w, channels] → activations [b, h', w', c] or tokens [b, n, c], activations → logits [b, classes]).
        """
        chain: list[tuple[str, Callable[[Array, Mode], Array]]] = []
        for name in self.groups[:-1]:
            group = nnx.merge(self.graphs[name], params[name], jax.tree.map(jnp.asarray, stats[name]))
            chain += [(block, getattr(group, block)) for block in group.order]
        cut = [block for block, _ in chain].index(self.maps.block)

        def run(x: Array, part: Sequence[tuple[str, Callable[[Array, Mode], Array]]]) -> Array:
            with full_products():
                for _, block in part:
                    x = block(x, Mode())
            return x

        return (
            lambda x: run((x - self.mean) / self.std, chain[:cut]),
            lambda x: self.apply(params, stats, run(x, chain[cut:]), start="head")[0],
        )


def network(
    groups: Mapping[str, Mapping[str, nnx.Module]], mean: np.ndarray, std: np.ndarray, maps: Maps, plain: PlainView = WHOLE
) -> Network:
    """Build the network of these groups of modules; a group {"": module} is that module itself."""
    graphs, shapes = {}, {}
    for name, blocks in groups.items():
        graph, params, stats = nnx.split(blocks[""] if "" in blocks else Sequential(blocks), nnx.Param, nnx.BatchStat)
        graphs[name] = graph
        trees = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
        shapes[name] = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trees)
    return Network(tuple(groups), mean, std, graphs, shapes, maps, plain)


def _initial(words: list[int], path: KeyPath, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    leaf = path[-1].key
    if leaf not in ("kernel", *EMBEDDINGS):
        return np.full(shape.shape, {"scale": 1, "var": 1, "gamma": 1e-6, "log_scale": np.log(10)}.get(leaf, 0), shape.dtype)
    name = "/".join(part.key for part in path)
    rng = np.random.default_rng([*words, zlib.crc32(name.encode())])
    sd = 0.02 if leaf in EMBEDDINGS else np.sqrt(2 / np.prod(shape.shape[:-1]))
    return rng.standard_normal(shape.shape, np.float32) * np.float32(sd)
