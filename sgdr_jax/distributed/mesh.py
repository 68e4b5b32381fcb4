"""The device mesh: placement of arrays and distribution of programs. The batch is split over a one-dimensional mesh.

A training step is written for one device's part of the batch and names the collectives between the parts (`steps.TrainStep.over`). It is
distributed by `jax.shard_map` inside jit, or by `jax.pmap`: the same step, the same collectives. If parameters are split as well
(`Parallel.sharded`), the compiler places the collectives. With several hosts each runs the same program; arrays are global, and a host
holds its own part.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import PyTree

from ..core.experiment import Parallel
from ..core.validation import require
from .backend import start_backend
from .hosts import dividing

type Function = Callable[..., PyTree]
"""A training step, or another function of arrays."""

AXIS = "batch"
"""Name of the mesh's only axis."""

FAST_COMPILATION = {"xla_gpu_experimental_enable_fusion_autotuner": False, "xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 2}
"""Options of XLA with which programs for a GPU compile faster; see `_compiler_options`."""

SHARD_FROM = 1 << 16
"""Minimum number of elements for an array of a sharded network to be split: smaller ones cost more time than they save memory."""


def split_at(axis: int) -> PartitionSpec:
    """Return the spec of an array with one axis split over the devices, all others whole."""
    return PartitionSpec(*[None] * axis, AXIS)


class Rows(Protocol):
    """Anything indexed by rows, such as `pixels.Pixels` or an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""
        ...

    def __getitem__(self, index: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Devices:
    """The devices of a run, and the placement of arrays on them.

    Attributes:
        mesh: with one axis, "batch".
        backend: "jit" or "pmap", which distributes a training step.
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
    def compiler_options(self) -> dict[str, bool | int] | None:
        """Options of XLA for large programs; None for its defaults."""
        return _compiler_options(self.mesh.devices.flat[0].platform)

    @property
    def whole(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def split(self) -> NamedSharding:
        """The first axis split over the devices."""
        return NamedSharding(self.mesh, split_at(0))

    def home(self, shape: tuple[int, ...]) -> NamedSharding:
        """Return the placement of an array of the network: whole, or if large and `sharded`, split along its longest divisible axis."""
        fits = [i for i, side in enumerate(shape) if side % self.count == 0]
        if not self.sharded or self.count == 1 or np.prod(shape) < SHARD_FROM or not fits:
            return self.whole
        axis = max(fits, key=shape.__getitem__)
        return NamedSharding(self.mesh, split_at(axis))

    def hold[T](self, tree: T) -> T:
        """Place the arrays of a network or its training state as `home` defines, in new buffers, so that the result may be donated."""
        return jax.tree.map(lambda x: self._put(x, self.home(np.shape(x))), tree)

    def replicate[T](self, tree: T) -> T:
        """Copy every array to every device, into new buffers, so that the result may be donated."""
        return jax.tree.map(lambda x: self._put(x, self.whole), tree)

    def scatter(self, tree: PyTree, axis: int = 0) -> PyTree:
        """Split an axis of every host array over the devices; its length must be a multiple of their number.

        With several hosts each must pass the whole arrays, the same on all.
        """
        split = NamedSharding(self.mesh, split_at(axis))
        if self.whole.is_fully_addressable:
            return jax.device_put(tree, split)
        return jax.tree.map(lambda x: self._put(x, split), tree)

    def scatter_own(self, part: np.ndarray) -> jax.Array:
        """Split an array over the devices along its first axis, each host passing its own part."""
        if self.whole.is_fully_addressable:
            return jax.device_put(part, self.split)
        return jax.make_array_from_process_local_data(self.split, part)

    def spread(self, rows: Rows) -> jax.Array:
        """Distribute the rows of something large over the devices; a host reads only those of its own devices.

        Rows of zeros pad their number to a multiple of the devices; `loader.rows` reads rows by index.
        """
        n = rows.shape[0]
        each = -(-n // self.count)

        def part(index: Any) -> np.ndarray:
            start = index[0].start or 0
            own = rows[min(start, n) : min(start + each, n)]
            return own if len(own) == each else np.concatenate([own, np.zeros((each - len(own), *rows.shape[1:]), own.dtype)])

        return jax.make_array_from_callback((each * self.count, *rows.shape[1:]), self.split, part)

    def _put(self, x: ArrayLike, sharding: NamedSharding) -> jax.Array:
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding, may_alias=False)
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return _copied(sharding)(x)
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    def compile_step(self, step: Function) -> Function:
        """Compile a training step (state, hyper, x, labels, weight, key) → (state, sums); the state is donated and placed as in `home`.

        Gradients, sums and batch statistics are those of the whole batch, which is the axis `step.batch_axis` of x, labels and weight. The
        compiler distributes a step without a method `over`.
        """
        over, axis, name = getattr(step, "over", None), getattr(step, "batch_axis", 0), "_".join(["update", *getattr(step, "trained", ())])
        if self.sharded and self.count > 1:

            def placed(state: PyTree, *rest: PyTree) -> tuple[PyTree, PyTree]:
                state, sums = step(state, *rest)
                state = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self.home(x.shape)), state)
                return state, jax.lax.with_sharding_constraint(sums, self.whole)

            return jax.jit(_named(placed, name), donate_argnums=0, compiler_options=self.compiler_options)
        if over is None or self.count == 1:
            places = (self.whole, self.whole)
            return jax.jit(_named(step, name), donate_argnums=0, out_shardings=places, compiler_options=self.compiler_options)
        if self.backend == "pmap":
            return _Pmapped(self, _named(over(AXIS), name), axis)
        whole, split = PartitionSpec(), split_at(axis)
        # Results computed from sums over all parts are the same on every device; check_vma does not support custom gradients.
        inputs, outputs = (whole, whole, split, split, split, whole), (whole, whole)
        mapped = jax.shard_map(over(AXIS), mesh=self.mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
        return jax.jit(_named(mapped, name), donate_argnums=0, compiler_options=self.compiler_options)

    def compile_map(self, function: Function, static_argnames: tuple[str, ...] = ()) -> Function:
        """Jit a function whose result has one row per example of the batch."""
        return jax.jit(function, out_shardings=self.split, static_argnames=static_argnames, compiler_options=self.compiler_options)

    def check_batch(self, name: str, size: int) -> None:
        """Raise InputError unless `size` images can be split evenly."""
        near = max(size // self.count, 1) * self.count
        fewer = "" if jax.process_count() > 1 else ", or fewer devices with parallel.devices"
        require(size % self.count == 0, name, size, f"use a multiple of the {self.count} devices, such as {near}{fewer}")


def _named(function: Function, name: str) -> Function:
    """Return a function that its program is named for, in profiles and in `compilation_cache.compiled`."""

    def call(*args: PyTree) -> PyTree:
        return function(*args)

    call.__name__ = name
    return call


@functools.cache
def _compiler_options(platform: str) -> dict[str, bool | int] | None:
    """Return the options of a platform unless the user has set them in XLA_FLAGS or this version of XLA does not know them.

    On a GPU, what XLA tries out takes most of the time to compile. Without fusions, Triton's matrix products and the comparison of
    results, an update of ResNet-50 (224 px, batch 256, H200) compiles in 14 instead of 40 s and takes as long as before.
    """
    if platform != "gpu":
        return None
    options: dict[str, bool | int] = {}
    for option, value in FAST_COMPILATION.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # an unknown option, which would end the process as a flag
            if option not in os.environ.get("XLA_FLAGS", ""):
                jax.jit(lambda: jax.numpy.zeros(()), compiler_options={option: value}).lower().compile()
                options[option] = value
    return options or None


class _Pmapped:
    """A training step under jax.pmap, called with arrays placed as for jit: whole, or split along the axis of the batch.

    pmap maps over an axis as long as the number of devices, so a batch [b, …] becomes [devices, b / devices, …] without moving. The state
    is not mapped, in or out: as pmap is built on jit and shard_map, it is whole on every device.
    """

    def __init__(self, devices: Devices, step: Function, axis: int) -> None:
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

    def __call__(self, state: PyTree, hyper: PyTree, x: Array, labels: Array, weight: Array, key: Array) -> PyTree:
        results = self._step(state, hyper, *self._fold((x, labels, weight)), key)
        if self._devices.whole.is_fully_addressable:
            return results
        # With several hosts pmap returns a copy on each; they are combined into one array again.
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(x.shape, self._devices.whole, [s.data for s in x.addressable_shards]),
            results,
        )

    def lower(self, state: PyTree, hyper: PyTree, x: Array, labels: Array, weight: Array, key: Array) -> jax.stages.Lowered:
        """Lower the step for the arrays, or shapes, of a call."""
        folded = jax.tree.map(
            lambda a, b: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self._split),
            jax.eval_shape(self._fold, (x, labels, weight)),
            (x, labels, weight),
        )
        return self._step.lower(state, hyper, *folded, key)


def readable(array: jax.Array) -> jax.Array:
    """Return an array that this host can read as a whole, gathering the parts of other hosts asynchronously; all hosts must call it."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return array
    assert isinstance(array.sharding, NamedSharding)
    return _copied(NamedSharding(array.sharding.mesh, PartitionSpec()))(array)


@functools.cache
def _copied(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jax.numpy.copy, out_shardings=sharding)


def devices(parallel: Parallel) -> Devices:
    """Build the mesh over the first `parallel.devices` devices (0 for all). Raises InputError when there are fewer."""
    available = start_backend()
    one = parallel.devices in (0, len(available)) or jax.process_count() == 1
    require(one, "parallel.devices", parallel.devices, f"with several hosts all {len(available)} devices are used; use 0, or fewer hosts")
    require(
        parallel.devices <= len(available), "parallel.devices", parallel.devices, f"there are {len(available)}: {available[0].platform}"
    )
    return Devices(Mesh(np.array(available[: parallel.devices or len(available)]), (AXIS,)), parallel.backend, parallel.sharded)


def devices_for(batch_size: int) -> int:
    """Return on how many of the devices here batches can be spread, as `Parallel.devices`: 0 for all, which several hosts need."""
    count = len(start_backend())
    return 0 if jax.process_count() > 1 else dividing(count, (batch_size,))


def compute_dtype(compute: str) -> np.dtype:
    """Return the dtype of network arithmetic: "auto" is float32 on CPU and bfloat16 elsewhere.

    Raises:
        InputError: for float64 if jax does not have it enabled.
    """
    ready = compute != "float64" or jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    require(ready, "compute", compute, "set JAX_ENABLE_X64=1 in the environment, without which jax has no float64")
    name = ("float32" if jax.default_backend() == "cpu" else "bfloat16") if compute == "auto" else compute
    return jax.numpy.dtype(name)
