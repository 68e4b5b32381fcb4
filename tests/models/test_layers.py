"""The convolutions of a CPU against what they stand for: lax's convolution and its gradients, batch normalisation in NumPy float64."""

from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sgdr_jax.models import EfficientNetLite0, cpu, layers
from sgdr_jax.models.blocks import BatchNorm, ConvBN, LayerNorm, Mode, SqueezeExcite
from sgdr_jax.models.chain import Modes

from ..helpers import seeded

SIDES = st.tuples(st.integers(5, 12), st.integers(5, 12))
STRIDES = st.integers(1, 2)
PADDINGS = st.sampled_from(["SAME", 0, 1, 2, ((2, 0), (1, 1))])


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@contextmanager
def platform_of_convolutions(name):
    """While the block traces, convolutions are those of this platform, as far as a CPU can compute them; "portable" still means lax's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers.jax, "default_backend", lambda: name)
        yield


def check_against_lax(x, kernel, stride, padding, groups=1, share=2e-6, platforms=("cpu",)):
    """Value and both gradients, under one random cotangent, are those of lax's convolution: within `share` of their largest value."""

    def results(cotangent):
        # A new function each time: jax would answer the second call with the program that it traced for the first.
        def value_and_gradients(x, kernel):
            y, pull = jax.vjp(lambda x, kernel: layers.conv(x, kernel, stride, padding, groups), x, kernel)
            return y, *pull(cotangent)

        return jax.jit(value_and_gradients)(x, kernel)

    with layers.portable():
        cotangent = drawn(*jax.eval_shape(lambda: layers.conv(x, kernel, stride, padding, groups)).shape, seed=9)
        reference = results(cotangent)
    for platform in platforms:
        with platform_of_convolutions(platform):
            found = results(cotangent)
        for name, ours, theirs in zip(("y", "dx", "dkernel"), found, reference, strict=True):
            difference = np.abs(np.float64(ours) - theirs).max()
            assert difference <= share * np.abs(theirs).max(), f"{name} differs by {difference} on {platform}"


@pytest.mark.parametrize("several", ["norm", "gate"])
def test_a_depthwise_convolution_is_computed_once_for_several_uses(several: str) -> None:
    """Normalised over the channels, or gated by its mean: within 1.5 times the arithmetic of the convolution, not twice or three times."""
    x, kernel = drawn(2, 16, 16, 32), drawn(7, 7, 1, 32)
    use = {"norm": LayerNorm(32, 1e-6), "gate": SqueezeExcite(32, 8, jax.nn.relu, jax.nn.sigmoid)}[several]

    def operations(f) -> float:
        return jax.jit(f).lower(x).compile().cost_analysis()["flops"]

    def convolved(x):
        return jax.nn.relu(layers.conv(x, kernel, 1, 3, 32) + 1)

    assert operations(convolved) < operations(lambda x: use(convolved(x), Mode())) < 1.5 * operations(convolved)


@settings(seeded, max_examples=8)
@given(SIDES, st.sampled_from([1, 3, 5]), STRIDES, PADDINGS)
@example((9, 8), 3, 2, "SAME")  # odd and even side; zeros on both sides and on one side only
@example((6, 11), 5, 2, "SAME")
@example((7, 5), 5, 1, "SAME")  # a height without divisors from 2 to 6
@example((8, 7), 1, 2, 0)  # a kernel smaller than the stride: some phases of the image are met by no tap
def test_depthwise_is_lax_grouped_convolution(sides, size, stride, padding):
    check_against_lax(drawn(3, *sides, 4), drawn(size, size, 1, 4, seed=1), stride, padding, groups=4)


@settings(seeded, max_examples=6)
@given(SIDES, st.sampled_from([1, 3, 7]), STRIDES, PADDINGS)
@example((7, 8), 1, 1, 0)
@example((7, 8), 1, 2, "SAME")
def test_conv_is_lax_convolution(sides, size, stride, padding):
    sides = tuple(max(side, size) for side in sides)
    check_against_lax(drawn(3, *sides, 5), drawn(size, size, 5, 6, seed=1), stride, padding)


@settings(seeded, max_examples=4)
@given(SIDES, PADDINGS)
@example((6, 13), 1)
@example((7, 9), ((2, 0), (1, 1)))
def test_winograds_kernel_gradient_is_lax_within_its_rounding(sides, padding):
    x, kernel = drawn(2, *sides, 32), drawn(3, 3, 32, 40, seed=1)
    check_against_lax(x, kernel, 1, padding, share=3e-5)


@pytest.mark.parametrize("stride, padding", [(1, 1), (2, "SAME")])
def test_convolutions_of_many_channels_as_matrix_products_are_laxs(stride, padding):
    check_against_lax(drawn(2, 5, 4, 128), drawn(3, 3, 128, 8, seed=1), stride, padding)


@pytest.mark.parametrize("batch", [6, 8])
def test_patches_in_blocks_sum_to_the_whole(batch, monkeypatch):
    """Blocks of images in a loop, as for images whose patches do not fit in the cache; some batches do not split over the devices."""
    monkeypatch.setattr(cpu, "CACHE", 10_000)
    check_against_lax(drawn(batch, 9, 8, 3), drawn(7, 7, 3, 6, seed=1), 2, 3)


@pytest.mark.parametrize("groups, inputs, outputs", [(4, 8, 8), (3, 6, 12), (16, 64, 64), (2, 96, 4), (4, 4, 8)])
def test_grouped_convolution_is_laxs(groups, inputs, outputs):
    check_against_lax(drawn(2, 7, 8, inputs), drawn(3, 3, inputs // groups, outputs, seed=1), 1, 1, groups)


@pytest.mark.parametrize("groups, inputs, outputs", [(13, 104, 104), (5, 40, 80), (3, 72, 72), (2, 16, 8)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [4, 9])
def test_groups_that_fill_no_whole_runs_are_laxs(groups, inputs, outputs, stride, side):
    """As in a RegNet: 13 groups of 8 channels are six runs of two, or one of three."""
    check_against_lax(drawn(2, side, side, inputs), drawn(3, 3, inputs // groups, outputs, seed=1), stride, 1, groups)


@pytest.mark.parametrize("groups, runs", [(13, 7), (55, 28), (120, 30)])
def test_many_groups_are_at_most_32_convolutions_and_their_gradients(groups, runs):
    """Each is compiled by itself, which for each group takes a RegNet minutes."""
    x, kernel = drawn(1, 4, 4, 8 * groups), drawn(3, 3, 8, 8 * groups, seed=1)
    program = jax.make_jaxpr(jax.value_and_grad(lambda *a: jnp.sum(layers.conv(*a, padding=1, groups=groups)), (0, 1)))(x, kernel)
    assert str(program).count("conv_general_dilated[") == 4 * runs


@pytest.mark.parametrize("platform, convolutions", [("cpu", 0), ("gpu", 3), ("tpu", 3)])
def test_only_a_cpu_sums_shifted_images(platform, convolutions):
    """Elsewhere a depthwise convolution and its two gradients are lax's: three operations. (A card of NVIDIA has kernels for them.)"""
    x, kernel = drawn(2, 6, 6, 4), drawn(3, 3, 1, 4, seed=1)
    with platform_of_convolutions(platform):
        gradients = jax.value_and_grad(lambda x, kernel: jnp.sum(layers.conv(x, kernel, 2, "SAME", 4) ** 2), (0, 1))
        program = jax.jit(gradients).lower(x, kernel).as_text()
    assert program.count("stablehlo.convolution") == convolutions


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_depthwise_gradients_stay_on_the_devices_of_their_images(platform):
    """With the batch split over devices the loop over images moves no activations between them, and the numbers do not change."""
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("batch",), ()))
    x, kernel = drawn(8, 6, 6, 4), drawn(3, 3, 1, 4, seed=1)

    def loss(x, kernel):
        with platform_of_convolutions(platform):
            return jnp.sum(jnp.square(layers.conv(x, kernel, 1, "SAME", 4)))

    expected = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    program = jax.jit(jax.grad(loss, (0, 1)), in_shardings=(split, whole), out_shardings=(split, whole)).lower(x, kernel).compile()
    assert mesh.size > 1 and "all-gather" not in program.as_text()
    for ours, one_device in zip(program(jax.device_put(x, split), kernel), expected, strict=True):
        np.testing.assert_allclose(ours, one_device, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_depthwise_kernel_gradient_is_summed_in_float32(platform):
    """4,096 equal bfloat16 terms: summed in bfloat16 they would stop growing at 256."""
    x, kernel = jnp.ones((64, 8, 8, 2), jnp.bfloat16), jnp.ones((1, 1, 1, 2))
    with platform_of_convolutions(platform):
        grad = jax.jit(jax.grad(lambda kernel: jnp.sum(layers.conv(x, kernel, groups=2).astype(jnp.float32))))(kernel)
    assert grad.dtype == kernel.dtype
    np.testing.assert_array_equal(grad, np.full((1, 1, 1, 2), 4096))


@pytest.mark.parametrize("padding", ["VALID", "same"])
def test_unknown_padding_is_refused(padding):
    with pytest.raises(ValueError, match=padding):
        layers.pads(padding, (8, 8), (3, 3), 1)


def batch_norm(x, scale, bias, eps):
    """Batch normalisation with its mean and variance, plainly."""
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).mean((0, 1, 2))
    return (x - mean) / (var + eps) ** 0.5 * scale + bias, mean, var


def test_batch_norm_train_is_the_formula_in_float64():
    x, scale, bias = np.asarray(drawn(4, 5, 6, 3)) * 3 + 2, drawn(3, seed=1), drawn(3, seed=2)
    for ours, exact in zip(
        layers.batch_norm_train(jnp.asarray(x), scale, bias, 1e-3),
        batch_norm(np.float64(x), *map(np.float64, (scale, bias)), 1e-3),
        strict=True,
    ):
        np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=2e-5)


def test_batch_norm_train_has_the_gradients_of_the_formula():
    """Through all three results at once, against central differences in float64."""
    x, scale, bias = np.float64(drawn(2, 3, 2, 3)) * 2 + 1, np.float64(drawn(3, seed=1)), np.float64(drawn(3, seed=2))
    weights = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(((2, 3, 2, 3), (3,), (3,)))]

    def loss(x, scale, bias):
        return sum((w * y).sum() for w, y in zip(weights, batch_norm(x, scale, bias, 1e-3), strict=True))

    def ours(x, scale, bias):
        results = layers.batch_norm_train(x, scale, bias, 1e-3)
        return sum((jnp.asarray(w, jnp.float32) * y).sum() for w, y in zip(weights, results, strict=True))

    values = [x, scale, bias]
    grads = jax.jit(jax.grad(ours, (0, 1, 2)))(*(jnp.asarray(v, jnp.float32) for v in values))
    for i, grad in enumerate(grads):
        exact = np.empty_like(values[i])
        for at in np.ndindex(exact.shape):
            steps = []
            for delta in (1e-5, -1e-5):
                moved = [v.copy() for v in values]
                moved[i][at] += delta
                steps.append(loss(*moved))
            exact[at] = (steps[0] - steps[1]) / 2e-5
        np.testing.assert_allclose(grad, exact, rtol=2e-4, atol=2e-4)


def test_normalisation_by_stored_statistics_is_the_formula():
    x, scale, bias, mean = drawn(2, 3, 3, 4), drawn(4, seed=1), drawn(4, seed=2), drawn(4, seed=3)
    var = drawn(4, seed=4) ** 2 + 0.1
    graph, *_ = nnx.split(BatchNorm(4, 1e-3), nnx.Param, nnx.BatchStat)
    ours = nnx.merge(graph, {"scale": scale, "bias": bias}, {"mean": mean, "var": var})(x, Mode())
    exact = (np.float64(x) - mean) / np.sqrt(np.float64(var) + 1e-3) * scale + bias
    np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_stored_statistics_in_the_kernel_are_those_on_its_outputs(groups):
    with jax.enable_x64(True):
        module = ConvBN(3, 4, 8, eps=1e-3, padding=1, groups=groups, activation=layers.relu6)
        graph, *_ = nnx.split(module, nnx.Param, nnx.BatchStat)
        params = {"kernel": drawn(3, 3, 4 // groups, 8), "bn": {"scale": drawn(8, seed=1), "bias": 3 + drawn(8, seed=2)}}
        stats = {"bn": {"mean": drawn(8, seed=3), "var": drawn(8, seed=4) ** 2 + 0.1}}
        params, stats = jax.tree.map(jnp.float64, (params, stats))
        x, slope = jnp.float64(drawn(2, 5, 5, 4, seed=5)), jnp.float64(drawn(2, 5, 5, 8, seed=6))

        def folded(params, x):
            return jnp.sum(nnx.merge(graph, params, stats)(x, Mode()) * slope)

        def plain(params, x):
            norm, (mean, var) = params["bn"], (stats["bn"][name] for name in ("mean", "var"))
            y = layers.conv(x, params["kernel"], padding=1, groups=groups)
            y = (y - mean) / jnp.sqrt(var + 1e-3) * norm["scale"] + norm["bias"]
            return jnp.sum(jnp.clip(y, 0, 6) * slope)

        ours, exact = (jax.value_and_grad(f, (0, 1))(params, x) for f in (folded, plain))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), ours, exact)


def test_bfloat16_kernels_are_not_multiplied():
    module = ConvBN(1, 4, 8, eps=1e-3, activation=layers.relu6)
    graph, *_ = nnx.split(module, nnx.Param, nnx.BatchStat)
    params = {"kernel": drawn(1, 1, 4, 8), "bn": {"scale": drawn(8, seed=1), "bias": drawn(8, seed=2)}}
    module = nnx.merge(graph, params, {"bn": {"mean": drawn(8, seed=3), "var": drawn(8, seed=4) ** 2 + 0.1}})
    x = drawn(2, 5, 5, 4, seed=5).astype(jnp.bfloat16)
    np.testing.assert_array_equal(module(x, Mode()), module.bn(layers.conv(x, params["kernel"]), Mode()))


def test_an_update_of_stored_statistics_keeps_one_array_of_a_convolutions_outputs():
    """Besides the input: normalisation and activation are computed from what the next layer reads."""
    module = ConvBN(1, 2, 3, eps=1e-3, activation=layers.relu6)
    graph, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    _, pull = jax.vjp(lambda params, x: nnx.merge(graph, params, stats)(x, Mode()), params, jnp.ones((2, 5, 5, 2)))
    assert sum(leaf.shape[:3] == (2, 5, 5) and leaf.shape[3:] == (3,) for leaf in jax.tree.leaves(pull)) == 1


def test_clip_is_relu6_with_slope_0_at_its_corners():
    x = jnp.linspace(-8, 8, 1001) + 1e-3
    np.testing.assert_array_equal(cpu.clip(x, 6), jax.nn.relu6(x))
    np.testing.assert_array_equal(*(jax.vmap(jax.grad(f))(x) for f in (partial(cpu.clip, most=6.0), jax.nn.relu6)))
    np.testing.assert_array_equal(jax.vmap(jax.grad(partial(cpu.clip, most=6.0)))(jnp.array([0.0, 6.0])), [0, 0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_float32_products_of_a_network_are_not_rounded_to_a_matrix_units_factors(dtype):
    """On GPU and TPU a product of float32 is one of TF32 or bfloat16 unless it says otherwise; forward and backward, head and body, do."""
    chain = EfficientNetLite0(weights=None, hidden=512).build(3)
    params, stats = chain.init(jax.random.key(0))

    def loss(params):
        with platform_of_convolutions("gpu"):
            x = jnp.zeros((2, 32, 32, 3))
            logits, _ = chain.apply(params, stats, x, modes=Modes(("head",), chain.groups, key=jax.random.key(1)), dtype=dtype)
        return jnp.square(logits).sum()

    highest = jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST
    products = [
        e for e in equations(jax.make_jaxpr(jax.grad(loss))(params).jaxpr) if e.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    of_float32 = [e for e in products if e.invars[0].aval.dtype == jnp.float32]
    assert len(of_float32) >= (6 if dtype == jnp.bfloat16 else 90)  # the head's two layers, forward and twice backward
    assert all(e.params["precision"] == highest for e in of_float32)


def equations(jaxpr):
    """All equations of a program, those of the functions that it calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


# ---- Slices of a batch ----


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 48), side=st.integers(1, 8), least=st.sampled_from([1, 2, 8]), limit=st.integers(0, 4000))
def test_slices_of_a_batch_are_the_batch(rows, side, least, limit):
    """Bit for bit, in slices that are neither larger than what fits nor, where the batch can be cut evenly, half as large."""
    seen = []

    def function(x):
        seen.append(len(x))
        return jnp.sin(x).sum(2)

    x = drawn(rows, side, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "SLICE", limit)
        patch.setattr(cpu.jax, "device_count", lambda: 1)
        np.testing.assert_array_equal(jax.jit(lambda x: layers.in_slices(function, x, least))(x), jax.jit(function)(x))
    fits, size = max(limit // (side * 3 * 4), least), seen[0]
    assert size == rows or (rows % size == 0 and size <= fits <= 2 * size)
    if fits < rows and rows % fits == 0:
        assert size == fits
    with platform_of_convolutions("gpu"):
        layers.in_slices(function, x, least)
    assert seen[-1] == rows


def test_slices_of_a_batch_stay_on_the_devices_of_their_images(monkeypatch):
    monkeypatch.setattr(cpu, "SLICE", 0)
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    split = NamedSharding(mesh, PartitionSpec("batch"))
    x = drawn(16, 6, 6, 4)

    def function(x):
        return layers.in_slices(lambda x: jnp.tanh(x).sum((1, 2)), x, 2)

    program = jax.jit(function, in_shardings=split, out_shardings=split).lower(x).compile()
    text = program.as_text()
    assert mesh.size == 4 and "while" in text and "all-gather" not in text and "all-to-all" not in text and "permute" not in text
    np.testing.assert_array_equal(program(jax.device_put(x, split)), jnp.tanh(x).sum((1, 2)))
