"""Devices: the batch is split over a one-dimensional mesh, everything else is copied to each device."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .compilation import keep_programs
from .config import Parallel, require


@dataclass(frozen=True)
class Devices:
    """The devices of a run and how arrays lie on them.

    Attributes:
        mesh: one axis, "batch".
    """

    mesh: Mesh

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
        return NamedSharding(self.mesh, PartitionSpec("batch"))

    def replicate(self, tree: Any) -> Any:
        """Puts a copy of every array on every device; always fresh buffers, so that the result may be donated."""
        return jax.tree.map(lambda x: jax.device_put(x, self.whole, may_alias=False), tree)

    def scatter(self, tree: Any) -> Any:
        """Splits the first axis of every host array over the devices; its length must be a multiple of their number."""
        return jax.device_put(tree, self.split)

    def compile_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Jits a training step (state, …) → (state, sums): the state is donated and stays whole, batch statistics are global."""
        return jax.jit(step, donate_argnums=0, out_shardings=(self.whole, self.whole))

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


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of giving it back to the system; does nothing elsewhere.

    A training step on CPU takes gigabytes of temporary buffers, and every page that the system hands out anew is cleared first: that
    was half of the step's time. Call it before jax starts its threads, which otherwise have small heaps of their own.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((-8, 1), (-4, 0), (-1, -1)):  # M_ARENA_MAX: one heap; M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: never
            libc.mallopt(parameter, value)


def devices(parallel: Parallel) -> Devices:
    """The mesh over the first `parallel.devices` devices (0: all). Raises InputError when there are fewer."""
    keep_freed_memory()
    keep_programs()
    found = jax.devices()
    require(parallel.devices <= len(found), "parallel.devices", parallel.devices, f"there are {len(found)}: {found[0].platform}")
    return Devices(Mesh(np.array(found[: parallel.devices or len(found)]), ("batch",)))


def compute_dtype(compute: str) -> Any:
    """The dtype of network arithmetic: "auto" is float32 on CPU and bfloat16 elsewhere."""
    name = ("float32" if jax.default_backend() == "cpu" else "bfloat16") if compute == "auto" else compute
    return jax.numpy.dtype(name)
