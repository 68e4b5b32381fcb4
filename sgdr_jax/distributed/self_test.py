"""Self-test of the installed jaxlib: programs that some version was found to compute wrongly, in silence, compared with what is right.

It takes a second or two, once for each version, kind of device and set of compiler flags; that it has passed is kept in the cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.paths import cache_folder

type KnownAnswer = tuple[str, Callable[..., Any], tuple[np.ndarray, ...], np.ndarray]
"""What is computed, the function to compile, its arguments, and the right result in float64."""


def checks() -> Iterator[KnownAnswer]:
    """Yield the programs to check: parts of training that XLA compiles differently, each with its result as computed by NumPy."""
    # jaxlib 0.10.2 on CPU is wrong by 0.2 % in the last rows: https://github.com/jax-ml/jax/issues/39103.
    points = np.zeros((32_769, 3), np.float32)
    points[:, 0] = np.arange(len(points))
    yield "vmapped products with a vector", _squared_norms, (points, np.eye(3, dtype=np.float32)), points[:, 0].astype(np.float64) ** 2
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 12, 12, 8)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 1, 8)).astype(np.float32)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = sum(padded[:, i : i + 12, j : j + 12] * kernel[i, j, 0] for i in range(3) for j in range(3))
    yield "a depthwise convolution", functools.partial(_convolved, groups=8), (x, kernel), np.asarray(shifted)
    dense = rng.normal(size=(3, 3, 8, 5)).astype(np.float32)
    full = sum(padded[:, i : i + 12, j : j + 12] @ dense[i, j].astype(np.float64) for i in range(3) for j in range(3))
    yield "a convolution", functools.partial(_convolved, groups=1), (x, dense), np.asarray(full)
    wanted = np.stack([[np.sum(padded[:, i : i + 12, j : j + 12], (0, 1, 2)) for j in range(3)] for i in range(3)])[:, :, None]
    gradient = jax.grad(lambda k, x: jnp.sum(_convolved(x, k, groups=8)))
    yield "the gradient of a depthwise convolution", gradient, (kernel, x), wanted
    logits = rng.normal(size=(64, 11)).astype(np.float32) * 20
    exact = logits.astype(np.float64) - np.log(np.sum(np.exp(logits.astype(np.float64)), 1, keepdims=True))
    yield "logarithms of softmax", jax.nn.log_softmax, (logits,), exact
    rows = rng.integers(0, 256, (50, 6, 3)).astype(np.uint8)
    index = rng.integers(0, 50, 200).astype(np.int32)
    yield "gathered rows of bytes", lambda rows, index: rows[index].astype(jnp.float32) / 255, (rows, index), rows[index] / 255.0
    steps = rng.normal(size=(40, 16)).astype(np.float32)

    def loop(steps: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, row: (0.5 * total + row, None), jnp.zeros(16), steps)[0]

    yield "a loop", loop, (steps,), functools.reduce(lambda total, row: 0.5 * total + row, steps.astype(np.float64), np.zeros(16))


def _squared_norms(points: jax.Array, matrix: jax.Array) -> jax.Array:
    return jax.vmap(lambda point: jnp.sum((matrix @ point) ** 2))(points)


def _convolved(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    how: dict[str, Any] = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups, "precision": "highest"}
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **how)


def wrong() -> list[str]:
    """Compile and run all checks; return what came out wrong, each in a few words."""
    failures: list[str] = []
    for name, function, arguments, right in checks():
        with jax.default_matmul_precision("highest"):
            result = np.asarray(jax.jit(function)(*arguments), np.float64)
        scale = float(np.max(np.abs(right)))
        if result.shape != right.shape or not np.allclose(result, right, rtol=1e-4, atol=1e-5 * scale):
            far = float(np.max(np.abs(result - right))) / scale if result.shape == right.shape else float("inf")
            failures.append(f"{name} (off by {far:.2g} of the largest value)")
    return failures


def check_jaxlib() -> None:
    """Run the self-test, unless it has passed before.

    Raises:
        InputError: the installed jaxlib computes something wrongly.
    """
    device = jax.devices()[0]
    facts = [jax.__version__, jaxlib.version.__version__, device.platform, device.device_kind, os.environ.get("XLA_FLAGS", "")]
    passed = cache_folder() / "self_test" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]
    if passed.exists():
        return
    if failures := wrong():
        fix = "install another version of jax and jaxlib, or leave out XLA_FLAGS"
        raise InputError(f"jaxlib {jaxlib.version.__version__} computes wrongly on {device.device_kind}: {', '.join(failures)}; {fix}")
    with suppress(OSError):  # a full or read-only disk: the next process tests again
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(passed, json.dumps(facts))
