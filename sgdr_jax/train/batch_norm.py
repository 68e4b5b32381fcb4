"""Stored statistics of batch normalisation: measured exactly on a set of images, and how far they have moved."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.console import NullConsole
from ..core.plan import StagePlan
from ..core.state import NetworkState, Tree
from ..core.types import Model
from ..data.sampler import Batch
from ..models.base import ChainModel
from ..models.chain import Modes, Network
from .context import RunContext

type Drift = dict[str, list[float]]
"""Layer group to [shift, stretch] of its statistics, see `drift`."""
CHUNK = 8192
"""Examples whose statistics are held on the host at once."""
DEAD = 1e-3
"""Added to variances before they are compared, so that channels without variation do not count."""


def recalibrate(
    context: RunContext,
    network: NetworkState,
    *,
    groups: tuple[str, ...] | None = None,
    memory: int = 2 << 30,
    ui: NullConsole | None = None,
) -> Tree:
    """Measure the mean and variance of each layer on all training images, as prediction would see them.

    A layer is measured while all layers before it use their own measured statistics, so the result depends on the set of images alone:
    not on their order, the batch size or the previous statistics. Each block is passed once per layer, and every pass makes one more
    layer exact. The output of a block is kept if it fits. The variance is that of the population (n, not n - 1).

    Args:
        context: prepared experiment; its training images are used, without augmentation.
        network: the network; images have its size.
        groups: layer groups to measure; None for all.
        memory: bytes that kept activations may take; larger ones are computed again from the images.
        ui: progress bar.

    Returns:
        Statistics of all groups, on the devices; those of other groups are unchanged.
    """
    programs, images, model = context.programs, context.images["train"], context.experiment.model
    chain = by_block(model, programs.network, len(context.data.classes), context.data.channels)
    own = owners(model, chain)
    p, s = _apart(network.params, chain, own, 0), _apart(network.stats, chain, own, 1)
    layers = {name: _count(s[name]) if groups is None or own[name] in groups else 0 for name in chain.groups}
    left = sum(layers.values())
    measured = programs.devices.compile_map(_measured(chain, programs.dtype), static_argnames=("start", "name"))
    forward = programs.devices.compile_map(_forward(chain, programs.dtype), static_argnames=("start", "stop"))
    kept: np.ndarray | None = None  # what enters the block `start`, of all images; None: start from the images
    start = chain.groups[0]

    def rows(program: Callable[[Any], jax.Array], first: int, count: int) -> np.ndarray:
        def each(batch: Batch, x: Any) -> jax.Array:
            return program(programs.plain(x, size=network.size) if kept is None else programs.devices.scatter(kept[first + batch.index]))

        return programs.map(each, count, images if kept is None else None, None, first)

    with (ui or NullConsole()).bar("batch statistics", left) as tick:
        for name, stop in zip(chain.groups, (*chain.groups[1:], None), strict=True):
            for _ in range(layers[name]):
                parts = [
                    rows(lambda x: measured(p, s, x, start=start, name=name), first, min(CHUNK, len(images) - first))  # noqa: B023
                    for first in range(0, len(images), CHUNK)
                ]
                s |= {name: programs.devices.replicate(_merge(parts, s[name]))}
                tick(1)
            left -= layers[name]
            if left and stop:
                spec = jax.eval_shape(forward, p, s, _spec(kept, images, network.size, programs), start=start, stop=stop)
                if spec.size // spec.shape[0] * spec.dtype.itemsize * len(images) <= memory:
                    kept = rows(lambda x: forward(p, s, x, start=start, stop=stop), 0, len(images))  # noqa: B023
                    start = stop
    return _together(s, own)


def recalibrate_for(context: RunContext, p: StagePlan, network: NetworkState, ui: NullConsole) -> tuple[NetworkState, Drift]:
    """Measure the statistics that a stage recalibrates, at its size; returns the network and how far they moved."""
    groups = p.stage.recalibrate if isinstance(p.stage.recalibrate, tuple) else None
    stats = recalibrate(context, network._replace(size=p.size), groups=groups, ui=ui)
    moved = drift(network.stats, stats)
    if groups and not moved.keys() & set(groups):
        ui.say(f"  no batch statistics to measure: there is no batch normalisation in {', '.join(groups)}")
    else:
        ui.say("  batch statistics measured; moved by " + ", ".join(f"{g} {shift:.2f} sd" for g, (shift, _) in moved.items() if shift))
    return network._replace(stats=stats), moved


def _spec(kept: np.ndarray | None, images: Any, size: int, programs: Any) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch that enters the network."""
    if kept is not None:
        return jax.ShapeDtypeStruct((programs.batch_size, *kept.shape[1:]), kept.dtype)
    return jax.ShapeDtypeStruct((programs.batch_size, size, size, images.pixels.shape[-1]), jnp.float32)


def _measured(chain: Network, dtype: Any) -> Callable[..., jax.Array]:
    def measured(params: Tree, stats: Tree, x: jax.Array, start: str, name: str) -> jax.Array:
        """Return the statistics of block `name` for each example, [b, all statistics], from the input of `start`."""
        after = chain.groups.index(name) + 1
        stop = chain.groups[after] if after < len(chain.groups) else None
        moments = chain.apply(params, stats, x, start=start, stop=stop, modes=Modes(measure=(name,)), dtype=dtype)[1][name]
        return jnp.concatenate(jax.tree.leaves(moments), axis=1)

    return measured


def _forward(chain: Network, dtype: Any) -> Callable[..., jax.Array]:
    def forward(params: Tree, stats: Tree, x: jax.Array, start: str, stop: str) -> jax.Array:
        return chain.apply(params, stats, x, start=start, stop=stop, dtype=dtype)[0]

    return forward


def _merge(parts: list[np.ndarray], like: Tree) -> Tree:
    """Merge the statistics of single examples, whose rows hold the leaves of `like` side by side.

    The mean is the mean of the means, the variance the mean of the variances plus the variance of the means; computed in float64 and
    returned in the dtype of `like`.
    """
    leaves, structure = jax.tree.flatten(like)
    columns = np.split(np.concatenate(parts).astype(np.float64), np.cumsum([leaf.size for leaf in leaves])[:-1], axis=1)
    each = jax.tree.unflatten(structure, columns)

    def finish(tree: Tree) -> Tree:
        if set(tree) == {"mean", "var"}:
            mean = tree["mean"].mean(0)
            var = tree["var"].mean(0) + np.square(tree["mean"] - mean).mean(0)
            return {"mean": mean.astype(leaves[0].dtype), "var": var.astype(leaves[0].dtype)}
        return {name: finish(part) for name, part in tree.items()}

    return finish(each)


def _count(stats: Tree) -> int:
    return len(jax.tree.leaves(stats)) // 2


# ---- a network cut at every block, and its trees ----


def by_block(model: Model, network: Network, classes: int, channels: int) -> Network:
    """Return the network with each block as its own group; models that are not a chain of blocks are returned unchanged."""
    if not isinstance(model, ChainModel) or len(model.blocks) < 2:
        return network
    return (
        replace(model, cuts=model.blocks[1:])
        .build(classes, channels)
        .normalised(network.mean.tolist(), network.std.tolist(), network.plain)
    )


def owners(model: Model, chain: Network) -> dict[str, str]:
    """Return the layer group of each group of `by_block`."""
    if not isinstance(model, ChainModel) or chain.groups == model.groups:
        return {name: name for name in chain.groups}
    groups = [group for group, blocks in model.split().items() for _ in blocks]
    return dict(zip(chain.groups, [*groups, "head"], strict=True))


def _apart(tree: Tree, chain: Network, own: dict[str, str], which: int) -> Tree:
    """Regroup a tree of layer groups by block; `which` is 0 for parameters and 1 for statistics."""
    return {name: {key: tree[group][key] for key in chain.shapes[name][which]} for name, group in own.items()}


def _together(tree: Tree, own: dict[str, str]) -> Tree:
    """Regroup a tree of blocks by layer group."""
    whole: Tree = {group: {} for group in own.values()}
    for name, group in own.items():
        whole[group] |= tree[name]
    return whole


def drift(before: Tree, after: Tree) -> Drift:
    """Measure how far statistics have moved: per layer group, root mean square over channels of (mean' - mean) / sd and log(sd' / sd).

    Groups without batch normalisation are omitted. `DEAD` is added to all variances.
    """
    drifts: Drift = {}
    for group in before:
        (was, old), (now, new) = ([_column(tree[group], leaf) for leaf in ("mean", "var")] for tree in (before, after))
        if len(old):
            shift, stretch = (now - was) / np.sqrt(old + DEAD), np.log((new + DEAD) / (old + DEAD)) / 2
            drifts[group] = [float(np.sqrt(np.mean(np.square(x)))) for x in (shift, stretch)]
    return drifts


def _column(stats: Tree, leaf: str) -> np.ndarray:
    """Return the values of all arrays named `leaf`, float64 [channels]."""
    leaves = [np.ravel(x).astype(np.float64) for path, x in jax.tree_util.tree_leaves_with_path(stats) if path[-1].key == leaf]
    return np.concatenate(leaves) if leaves else np.empty(0)
