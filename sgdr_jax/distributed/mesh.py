"""Devices, how arrays lie on them, and how programs are spread over them. The batch is split over a one-dimensional mesh.

A training step is written for one device's part of the batch and says itself what the parts must agree on (`steps.Step.over`). It is
spread by `jax.shard_map` inside jit, or by `jax.pmap`: the same step, the same collectives. Where parameters are split as well
(`Parallel.sharded`), the compiler places the collectives. With several hosts each of them runs the same program; arrays are global, and
a host holds its own part.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..core.experiment import Parallel
from ..core.validation import require
from .compilation_cache import keep_programs

AXIS = "batch"
"""Name of the mesh's only axis."""

SHARD_FROM = 1 << 16
"""Elements from which an array of a sharded network is split: smaller ones cost more time than they take memory."""


def split_at(axis: int) -> PartitionSpec:
    """An axis split over the devices, all others whole."""
    return PartitionSpec(*[None] * axis, AXIS)


class Rows(Protocol):
    """What can be indexed by rows, such as `canvas.Pixels` or an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""
        ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Devices:
    """The devices of a run and how arrays lie on them.

    Attributes:
        mesh: one axis, "batch".
        backend: how a training step is spread over them, "jit" or "pmap".
        sharded: whether large arrays of the network are split over the devices instead of copied to each.
    """

    mesh: Mesh
    backend: str = "jit"
    sharded: bool = False

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.size

    @property
    def whole(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def split(self) -> NamedSharding:
        """The first axis split over the devices."""
        return NamedSharding(self.mesh, split_at(0))

    def home(self, shape: tuple[int, ...]) -> NamedSharding:
        """How an array of the network lies: whole, or its longest axis that can be divided evenly is split if it is large and `sharded`."""
        fits = [i for i, side in enumerate(shape) if side % self.count == 0]
        if not self.sharded or self.count == 1 or np.prod(shape) < SHARD_FROM or not fits:
            return self.whole
        axis = max(fits, key=shape.__getitem__)
        return NamedSharding(self.mesh, split_at(axis))

    def hold(self, tree: Any) -> Any:
        """Puts the arrays of a network or its training state where they belong; always fresh buffers, so that the result may be donated."""
        return jax.tree.map(lambda x: self._put(x, self.home(np.shape(x))), tree)

    def replicate(self, tree: Any) -> Any:
        """Puts a copy of every array on every device; always fresh buffers, so that the result may be donated."""
        return jax.tree.map(lambda x: self._put(x, self.whole), tree)

    def scatter(self, tree: Any, axis: int = 0) -> Any:
        """Splits an axis of every host array over the devices; its length must be a multiple of their number.

        With several hosts each must give the whole arrays, and the same.
        """
        split = NamedSharding(self.mesh, split_at(axis))
        if self.whole.is_fully_addressable:
            return jax.device_put(tree, split)
        return jax.tree.map(lambda x: self._put(x, split), tree)

    def scatter_own(self, part: np.ndarray) -> jax.Array:
        """An array split by its first axis over the devices, of which each host gives its own part."""
        if self.whole.is_fully_addressable:
            return jax.device_put(part, self.split)
        return jax.make_array_from_process_local_data(self.split, part)

    def spread(self, rows: Rows) -> jax.Array:
        """Shares the rows of something large out among the devices; a host reads those of its own devices only.

        Their number is made up to a multiple of the devices with rows of zeros; `feed.rows` takes rows by index.
        """
        n = rows.shape[0]
        each = -(-n // self.count)

        def part(index: Any) -> np.ndarray:
            start = index[0].start or 0
            own = rows[min(start, n) : min(start + each, n)]
            return own if len(own) == each else np.concatenate([own, np.zeros((each - len(own), *rows.shape[1:]), own.dtype)])

        return jax.make_array_from_callback((each * self.count, *rows.shape[1:]), self.split, part)

    def _put(self, x: Any, sharding: NamedSharding) -> jax.Array:
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding, may_alias=False)
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return _copied(sharding)(x)
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    def compile_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a training step (state, hyper, x, labels, weight, key) → (state, sums): the state is donated and lies as `home` says.

        Gradients, sums and batch statistics are those of the whole batch, which lies along the axis `step.batch_axis` of x, labels and
        weight. A step that cannot say what its parts have to agree on (it has no method `over`) is spread by the compiler.
        """
        over, axis = getattr(step, "over", None), getattr(step, "batch_axis", 0)
        if self.sharded and self.count > 1:

            def placed(state: Any, *rest: Any) -> Any:
                state, sums = step(state, *rest)
                state = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self.home(x.shape)), state)
                return state, jax.lax.with_sharding_constraint(sums, self.whole)

            return jax.jit(placed, donate_argnums=0)
        if over is None or self.count == 1:
            return jax.jit(step, donate_argnums=0, out_shardings=(self.whole, self.whole))
        if self.backend == "pmap":
            return _Pmapped(self, over(AXIS), axis)
        whole, split = PartitionSpec(), split_at(axis)
        # What is computed from sums over all parts is the same on every device; the check of that knows no custom gradients.
        specs: Any = {"in_specs": (whole, whole, split, split, split, whole), "out_specs": (whole, whole), "check_vma": False}
        return jax.jit(jax.shard_map(over(AXIS), mesh=self.mesh, **specs), donate_argnums=0)

    def compile_map(self, function: Callable[..., Any], **static: Any) -> Callable[..., Any]:
        """Jits a function whose result has one row for each example of the batch."""
        return jax.jit(function, out_shardings=self.split, **static)

    def check_batch(self, name: str, size: int) -> None:
        """Raises InputError unless `size` images can be split evenly."""
        near = max(size // self.count, 1) * self.count
        require(
            size % self.count == 0,
            name,
            size,
            f"use a multiple of the {self.count} devices, such as {near}, or fewer devices with --parallel.devices",
        )


class _Pmapped:
    """A training step under jax.pmap, called with arrays as they lie for jit: whole, or split along the axis of the batch.

    pmap maps over an axis of the length of the devices, so a batch [b, …] becomes [devices, b / devices, …]; where it lies does not
    change. The state is mapped over no axis, in or out: as pmap is made of jit and shard_map, it lies whole on every device.
    """

    def __init__(self, devices: Devices, step: Callable[..., Any], axis: int) -> None:
        self._devices, self._split = devices, NamedSharding(devices.mesh, split_at(axis))

        def folded(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:axis], devices.count, x.shape[axis] // devices.count, *x.shape[axis + 1 :])

        self._fold = jax.jit(lambda batch: jax.tree.map(folded, batch), out_shardings=self._split)
        self._step = jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, None, axis, axis, axis, None),
            out_axes=None,
            devices=devices.mesh.devices.flatten().tolist(),
            donate_argnums=0,
        )

    def __call__(self, state: Any, hyper: Any, x: Any, labels: Any, weight: Any, key: Any) -> Any:
        results = self._step(state, hyper, *self._fold((x, labels, weight)), key)
        if self._devices.whole.is_fully_addressable:
            return results
        # With several hosts pmap gives each its own copy; together they are one array again.
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(x.shape, self._devices.whole, [s.data for s in x.addressable_shards]),
            results,
        )

    def lower(self, state: Any, hyper: Any, x: Any, labels: Any, weight: Any, key: Any) -> Any:
        """The step for arrays, or shapes, as of a call."""
        folded = jax.tree.map(
            lambda a, b: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self._split),
            jax.eval_shape(self._fold, (x, labels, weight)),
            (x, labels, weight),
        )
        return self._step.lower(state, hyper, *folded, key)


def readable(array: jax.Array) -> jax.Array:
    """An array that this host can read as a whole, soon: what other hosts hold is on its way to each device. All hosts must ask for it."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return array
    assert isinstance(array.sharding, NamedSharding)
    return _copied(NamedSharding(array.sharding.mesh, PartitionSpec()))(array)


@functools.cache
def _copied(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jax.numpy.copy, out_shardings=sharding)


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of giving it back to the system; does nothing elsewhere.

    A training step on CPU takes gigabytes of temporary buffers, and every page that the system hands out anew is cleared first: that
    was half of the step's time. Call it before jax starts its threads, which otherwise have small heaps of their own. A process that has a
    GPU for its steps has no use for it, and many threads that compile, which should not wait for one another at a single heap.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((-8, 1), (-4, 0), (-1, -1)):  # M_ARENA_MAX: one heap; M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: never
            libc.mallopt(parameter, value)


def devices(parallel: Parallel) -> Devices:
    """The mesh over the first `parallel.devices` devices (0: all). Raises InputError when there are fewer."""
    if not entry_points(group="jax_plugins"):  # nothing but the processor can be found
        keep_freed_memory()
    keep_programs()
    found = jax.devices()
    if found[0].platform == "cpu":
        keep_freed_memory()
    one = parallel.devices in (0, len(found)) or jax.process_count() == 1
    require(one, "parallel.devices", parallel.devices, f"with several hosts all {len(found)} devices are used; use 0, or fewer hosts")
    require(parallel.devices <= len(found), "parallel.devices", parallel.devices, f"there are {len(found)}: {found[0].platform}")
    return Devices(Mesh(np.array(found[: parallel.devices or len(found)]), (AXIS,)), parallel.backend, parallel.sharded)


def compute_dtype(compute: str) -> Any:
    """The dtype of network arithmetic: "auto" is float32 on CPU and bfloat16 elsewhere. Raises InputError for a float64 that jax lacks."""
    ready = compute != "float64" or jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    require(ready, "compute", compute, "set JAX_ENABLE_X64=1 in the environment, without which jax has no float64")
    name = ("float32" if jax.default_backend() == "cpu" else "bfloat16") if compute == "auto" else compute
    return jax.numpy.dtype(name)
