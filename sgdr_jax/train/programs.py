"""Compiled programs of an experiment: augmentation, parts of the network, updates, prediction of whole splits."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ..augment import kernel
from ..core.experiment import Experiment
from ..core.optimizers import Optimizer
from ..core.plan import Plan, StagePlan
from ..core.state import NetworkState, Tree
from ..core.validation import require
from ..data.loader import ImageLoader, row_gather
from ..data.sampler import Batch, eval_batches
from ..distributed.memory import one_line_if_exhausted
from ..distributed.mesh import Devices, compute_dtype, devices, readable, split_at
from ..evaluation import metrics, tta
from ..models.chain import Network
from ..models.precision import precision
from . import image_input, optim, steps
from .image_input import ImageInput
from .span import Span


@dataclass(frozen=True)
class Programs:
    """Compiled programs of one network on the devices of a run; each compiles once per shape.

    Attributes:
        network: the chain of layer groups.
        devices: the devices.
        dtype: dtype of the network's arithmetic.
        batch_size: examples per evaluation step.
        forward: compiled (params, stats, x, start=, stop=) → activations or logits.
        augmented: compiled (images uint8 [b, s, s, c], draw [b], key, strength, augmentations=, size=) → float32 [b, size, size, c];
            strength None is 1.
        mixed: compiled (pixels [b, size, size, c], labels [b, ...], their weights [b], draw [b], key, strength, augmentations=) → (pixels,
            `metrics.Mixed`).
        plain: compiled (images, size=) → float32 [b, size, size, c].
        view: compiled (images, ids uint32 [b], key, v, kind=, augmentations=, size=) → test-time view v, float32 [b, size, size, c].
        rows: compiled (array [n, ...] as by `Devices.spread`, index [b] or [k, b]) → its rows [b, ...] or [k, b, ...].
        stack: compiled (arrays [n, ...], rows=(k, b)) → their first k · b rows [k, b, ...].
        slots: compiled (parameters of the trained groups, optimizer=, trained=) → fresh optimizer state.
        update: (optimizer, trained, collects, accumulate, length, image input) → compiled `steps.TrainStep`, or `span.Span` for a length
            above 1; equal arguments give the same program.
        rehearsing: whether programs are only compiled, see `runs.compile_ahead`.
    """

    network: Network
    devices: Devices
    dtype: Any
    batch_size: int
    forward: Callable[..., jax.Array]
    augmented: Callable[..., jax.Array]
    mixed: Callable[..., tuple[jax.Array, metrics.Mixed]]
    plain: Callable[..., jax.Array]
    view: Callable[..., jax.Array]
    rows: Callable[..., jax.Array]
    stack: Callable[..., Any]
    slots: Callable[..., Any]
    update: Callable[[Optimizer, tuple[str, ...], tuple[str, ...], int, int, ImageInput | None], Callable[..., Any]]

    rehearsing: ClassVar[bool] = False

    @property
    def precision(self) -> Any:
        """Dtype of parameters, statistics and rates."""
        return precision(self.dtype)

    def hold(self, tree: Any) -> Any:
        """Put the arrays of a network on the devices, in the precision of parameters."""
        kind = np.dtype(self.precision)
        return self.devices.hold(jax.tree.map(lambda x: x if x.dtype == kind else x.astype(kind), tree))

    def copy(self, network: NetworkState) -> NetworkState:
        """Copy a network to buffers that survive the donation of the given ones."""
        params, stats = self.devices.hold((network.params, network.stats))
        return NetworkState(params, stats, network.size)

    def step(self, p: StagePlan, length: int = 1, image_input: ImageInput | None = None) -> Callable[..., Any]:
        """Return the compiled update of a stage, or the `span.Span` of up to `length` of them; donates its state."""
        return self.update(optim.without_hyper(p.optimizer), p.trained, p.collects, p.stage.accumulate, length, image_input)

    def predict(self, params: Tree, stats: Tree, x: jax.Array, start: str | None = None) -> jax.Array:
        """Return logits [b, classes] from the input of group `start`; the body runs in the same program that caches activations."""

        def of(groups: tuple[str, ...]) -> list[Tree]:
            return [{g: tree[g] for g in groups} for tree in (params, stats)]

        *body, head = self.network.groups
        if start != head:
            below = tuple(body[body.index(start) if start else 0 :])
            x = self.forward(*of(below), x, start=start, stop=head)
        return self.forward(*of((head,)), x, start=head, stop=None)

    def map(
        self,
        function: Callable[[Batch, Any], jax.Array],
        n: int,
        images: ImageLoader | None = None,
        tick: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        """Apply `function(batch, images [b, s, s, c] of the batch) → rows` to n examples in padded batches.

        Args:
            function: its rows of padding are dropped.
            n: number of examples.
            images: their images, repeated if there are fewer than n; None to pass None instead.
            tick: receives the number of examples done.
            first: number of the first image.

        Returns:
            Host array of n rows, one per example.

        Raises:
            InputError: out of device memory; names the batch size that would fit.
        """
        out: list[Any] = []
        done: list[int] = []
        batches = eval_batches(n, self.batch_size)
        fed = (
            images.batches(b._replace(index=(first + b.index) % len(images)) for b in batches)
            if images
            else zip(batches, itertools.repeat(None))
        )
        with one_line_if_exhausted("evaluate.batch_size", self.batch_size, self.devices, "predictions or activations"):
            for batch, x in fed:
                out.append(readable(function(batch, x)))
                done.append(int(batch.weight.sum()))
                if len(out) > 2:  # fetched two batches late, so that the device never waits for the host
                    out[-3] = np.asarray(out[-3])
                if tick:
                    tick(done[-1])
            return np.concatenate([np.asarray(rows)[:k] for rows, k in zip(out, done, strict=True)])


def check_batches(experiment: Experiment, schedule: Plan) -> None:
    """Raise InputError unless the batches of all stages, and the parts that they pass through the network in, fit the devices."""
    mesh = devices(experiment.parallel)
    for p in (p for p in schedule.stages if not p.stage.solve):
        field, parts = f'stage "{p.stage.name}": ', p.stage.accumulate
        mesh.check_batch(f"{field}batch_size" if p.stage.batch_size else "batch_size", p.batch_size)
        share = p.batch_size // mesh.count
        require(share % parts == 0, f"{field}accumulate", parts, f"use a divisor of the {share} images that each device has of a batch")


def build_programs(experiment: Experiment, network: Network) -> Programs:
    """Build the programs of an experiment. Raises InputError if the batches of its evaluation do not fit the devices."""
    mesh = devices(experiment.parallel)
    mesh.check_batch("evaluate.batch_size", experiment.evaluate.batch_size)
    dtype = compute_dtype(experiment.compute)

    def slots(params: Tree, optimizer: Optimizer, trained: tuple[str, ...]) -> Any:
        return optim.init(optimizer, trained, params)

    def stack(arrays: Sequence[Any], rows: tuple[int, int]) -> Any:
        return jax.tree.map(lambda *each: jnp.concatenate(each)[: math.prod(rows)].reshape(*rows, *each[0].shape[1:]), *arrays)

    @cache
    def update(
        optimizer: Optimizer,
        trained: tuple[str, ...],
        collects: tuple[str, ...],
        accumulate: int,
        length: int,
        image_input: ImageInput | None,
    ) -> Callable[..., Any]:
        step = steps.TrainStep(network, optimizer, trained, collects, dtype, accumulate)
        return mesh.compile_step(Span(step, length, image_input) if length > 1 else step)

    return Programs(
        network=network,
        devices=mesh,
        dtype=dtype,
        batch_size=experiment.evaluate.batch_size,
        forward=mesh.compile_map(partial(steps.forward, network, dtype=dtype), static_argnames=("start", "stop")),
        augmented=mesh.compile_map(partial(image_input.augmented, plain=network.plain), static_argnames=("augmentations", "size")),
        mixed=mesh.compile_map(image_input.mixed, static_argnames=("augmentations",)),
        plain=mesh.compile_map(partial(kernel.resize, plain=network.plain), static_argnames=("size",)),
        view=mesh.compile_map(partial(tta.view, plain=network.plain), static_argnames=("kind", "augmentations", "size")),
        rows=row_gather(mesh),
        stack=jax.jit(stack, static_argnames=("rows",), out_shardings=NamedSharding(mesh.mesh, split_at(1))),
        slots=jax.jit(slots, static_argnames=("optimizer", "trained"), out_shardings=None if mesh.sharded else mesh.whole),
        update=update,
    )
