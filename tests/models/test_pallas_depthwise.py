"""The kernels for depthwise convolutions against lax in float32, interpreted on a CPU: values, both gradients, and where they apply."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sgdr_jax.models import gpu, layers, pallas_depthwise

from ..helpers import seeded
from .test_layers import drawn


def reference(x, kernel, stride, padding):
    """lax's convolution in float32, with its two gradients under the cotangent."""
    with layers.portable():
        return jax.vjp(lambda x, kernel: layers.conv(x, kernel[:, :, None], stride, padding, x.shape[3]), x, kernel)


SIDES = st.tuples(st.integers(3, 9), st.integers(3, 9))
PADDINGS = st.sampled_from(["SAME", 0, 1, 3, ((2, 0), (1, 1)), ((0, 3), (2, 1))])
TILES = st.builds(pallas_depthwise.Tile, st.integers(1, 4), st.sampled_from([2, 4, 16]), st.sampled_from([2, 8]), st.just(4))


@settings(seeded, max_examples=2)
@given(SIDES, st.sampled_from([3, 5, 7]), st.integers(1, 2), PADDINGS, st.integers(1, 5), TILES)
@example((8, 7), 3, 2, "SAME", 3, pallas_depthwise.Tile(2, 2, 2, 4))  # zeros on one side only, and on both
@example((7, 8), 5, 2, "SAME", 3, pallas_depthwise.Tile(3, 2, 2, 4))  # rows of the transposed convolution begin at either phase
@example((7, 5), 7, 1, "SAME", 2, pallas_depthwise.Tile(4, 4, 2, 4))  # a kernel larger than the image
@example((9, 9), 3, 1, 0, 4, pallas_depthwise.Tile(4, 4, 4, 4))  # a row and a column left over
def test_kernels_are_lax_in_float32(sides, size, stride, padding, channels, tile):
    pairs = layers.pads(padding, sides, (size, size), stride)
    if any(n + sum(pair) < size for n, pair in zip(sides, pairs, strict=True)):
        return
    x, kernel = drawn(2, *sides, channels), drawn(size, size, channels, seed=1)
    y, pull = reference(x, kernel, stride, padding)
    g = drawn(*y.shape, seed=2)
    dx, dkernel = pull(g)
    forward = pallas_depthwise.Geometry((size, size), (pairs[0][0], pairs[1][0]), stride)
    found = {
        "y": (pallas_depthwise.gather(x, kernel, forward, y.shape[1:3], tile, interpret=True), y),
        "dx": (pallas_depthwise.gather(g, kernel, forward._replace(transposed=True), sides, tile, interpret=True), dx),
        "dkernel": (pallas_depthwise.kernel_gradient(x, g, forward, tile, programs=3, interpret=True), dkernel),
    }
    for name, (ours, theirs) in found.items():
        assert ours.shape == theirs.shape
        difference = np.abs(np.float64(ours) - theirs).max()
        assert difference <= 2e-6 * np.abs(theirs).max(), f"{name} differs by {difference}"


@pytest.mark.parametrize(
    ("side", "channels", "size", "stride", "padding"), [(9, 3, 3, 2, "SAME"), (8, 40, 5, 1, 2), (18, 4, 5, 2, 2), (7, 4, 7, 1, 3)]
)
def test_the_choice_of_kernels_is_lax_with_its_gradients(side, channels, size, stride, padding, monkeypatch):
    pairs = layers.pads(padding, (side, side), (size, size), stride)
    x, kernel = drawn(2, side, side, channels), drawn(size, size, 1, channels, seed=1)
    y, pull = reference(x, kernel[:, :, 0], stride, padding)
    g = drawn(*y.shape, seed=2)
    for name in ("gather", "kernel_gradient"):
        monkeypatch.setattr(pallas_depthwise, name, partial(getattr(pallas_depthwise, name), interpret=True))
    for kernels in (pallas_depthwise, None):
        monkeypatch.setattr(gpu, "_kernels", lambda *_, kernels=kernels: kernels)
        found, back = jax.vjp(lambda x, kernel: gpu.depthwise(x, kernel, stride, pairs), x, kernel)
        dx, dkernel = back(g)
        for ours, theirs in zip((found, dx, dkernel[:, :, 0]), (y, *pull(g)), strict=True):
            assert np.abs(np.float64(ours) - theirs).max() <= 2e-6 * np.abs(theirs).max()


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(("side", "size", "stride"), [(14, 3, 1), (14, 5, 2), (7, 7, 1)])
def test_kernels_lower_for_cuda_without_a_card(side, size, stride, x64):
    """As far as a machine without one can tell: to Triton's language, in the dtype of the arrays, for an H200."""
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    shape, small = (4, side, side, 32), -(-side // stride)
    pairs = layers.pads("SAME", (side, side), (size, size), stride)
    geometry = pallas_depthwise.Geometry((size, size), (pairs[0][0], pairs[1][0]), stride)
    x, g = jax.ShapeDtypeStruct(shape, jnp.bfloat16), jax.ShapeDtypeStruct((4, small, small, 32), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((size, size, 32), jnp.float32)

    def forward(x, kernel):
        return pallas_depthwise.gather(x, kernel, geometry, (small, small), pallas_depthwise.Tile(7, 8, 32, 1))

    def backward(x, kernel, g):
        dx = pallas_depthwise.gather(g, kernel, geometry._replace(transposed=True), (side, side), pallas_depthwise.Tile(7, 8, 32, 1))
        return dx, pallas_depthwise.kernel_gradient(x, g, geometry, pallas_depthwise.Tile(4, 8, 32, 4), programs=64)

    with jax.enable_x64(x64), jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device)):
        for function, arrays, calls in ((forward, (x, kernel), 1), (backward, (x, kernel, g), 2)):
            text = jax.jit(function).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
            assert text.count("triton") >= calls


@pytest.mark.parametrize(
    ("found", "shape", "dtype", "used"),
    [
        (90, (2, 8, 8, 4), jnp.bfloat16, True),
        (75, (2, 8, 8, 4), jnp.bfloat16, False),  # Turing
        (0, (2, 8, 8, 4), jnp.bfloat16, False),  # AMD
        (ValueError("unknown card"), (2, 8, 8, 4), jnp.bfloat16, False),
        (90, (0, 8, 8, 4), jnp.bfloat16, False),
        (90, (1 << 20, 64, 64, 4), jnp.bfloat16, False),
        (90, (2, 8, 8, 4), np.float64, False),
    ],
)
def test_where_kernels_are_used(found, shape, dtype, used, monkeypatch):
    def info():
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(compute_capability=found)

    monkeypatch.setattr(pallas_depthwise.triton, "get_gpu_info", info)
    monkeypatch.setattr(gpu.jax, "device_count", lambda: 1)
    x = SimpleNamespace(shape=shape, dtype=np.dtype(dtype))
    assert (gpu._kernels(x, shape) is not None) == used
    monkeypatch.setattr(gpu.jax, "device_count", lambda: 2)
    assert gpu._kernels(x, shape) is None  # and XLA would have to distribute it
