"""Networks: real weights on a photograph, and the rules of groups, statistics and dropout on a tiny chain; parity is in test_parity.py."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import Experiment, Sgdr, Stage, models
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.plan import plan
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import (
    VGG16BN,
    CAFormerS18,
    DenseNet121,
    EfficientNetB0,
    EfficientNetLite0,
    ResNet18,
    ResNet34,
    SwinV2Tiny,
    TfEfficientNetB0,
    WideResNet,
)
from sgdr_jax.models.base import ChainModel, Tensors, conv_bn, networks
from sgdr_jax.models.blocks import Mode
from sgdr_jax.models.chain import Modes
from sgdr_jax.models.convnext import ConvNeXt
from sgdr_jax.models.inverted_residual import InvertedResiduals
from sgdr_jax.models.layers import conv, pads
from sgdr_jax.models.pretrained import load

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = [getattr(models, name) for name in models.__all__]


@dataclass(frozen=True)
class Tiny(ChainModel):
    """Three small blocks, and the means of ImageNet: enough for every rule of the chain."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("block1",)
    hidden: int = 8

    imagenet: ClassVar = "package:no-such-package"
    classifier: ClassVar = ("fc",)
    features: ClassVar = 6
    mean: ClassVar = (0.485, 0.456, 0.406)
    std: ClassVar = (0.229, 0.224, 0.225)

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", "block0", "block1")

    def modules(self, channels: int) -> dict[str, Any]:
        from sgdr_jax.models.blocks import ConvBN, Residual

        return {
            "stem": ConvBN(3, channels, 4, eps=1e-3, stride=2, padding="SAME"),
            "block0": Residual({"a": ConvBN(3, 4, 4, eps=1e-3, padding=1, groups=4, activation=jax.nn.relu)}),
            "block1": ConvBN(1, 4, 6, eps=1e-3),
        }

    def tensors(self) -> Iterator[Tensors]:
        for index, path in enumerate((("stem",), ("block0", "a"), ("block1",))):
            yield from conv_bn(f"conv{index}", f"bn{index}", path)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(size=(4, 9, 9, 3)), jnp.float32)


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any, Any]:
    network = Tiny().build(5)
    params, stats = network.init(jax.random.key(0))
    # Statistics that differ from their start, so that a use of the wrong ones shows.
    stats = jax.tree.map(lambda leaf: leaf + 0.3, stats)
    return network, params, stats


def same(a: Any, b: Any) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


# ---- Real weights ----


def test_lite0_with_imagenet_weights_sees_what_the_reference_sees() -> None:
    golden = np.load(GOLDEN / "models.npz")
    model = EfficientNetLite0(cuts=EfficientNetLite0().blocks[1:])  # every block a group, so that every block can be looked at
    network, params, stats = load.classifier(model)

    @jax.jit
    def run(x: jax.Array) -> dict[str, jax.Array]:
        seen = {}
        for start, stop in zip(network.groups, (*network.groups[1:], None), strict=True):
            x, _ = network.apply(params, stats, x, start=start, stop=stop)
            seen[start] = x
        return seen

    seen = run(jnp.asarray(golden["photo"][None], jnp.float32) / 255)
    for name in model.blocks[1:]:
        ours, torch = np.asarray(seen[name])[0], golden[name]
        np.testing.assert_allclose(ours.mean((0, 1)) if ours.ndim == 3 else ours, torch, atol=1e-4 * np.abs(torch).max(), err_msg=name)
    logits = np.asarray(seen["head"])[0]
    assert np.abs(logits - golden["logits"]).max() <= 1e-4 * np.abs(golden["logits"]).max()
    assert 281 <= logits.argmax() <= 285  # ImageNet's cats


# ---- Layers ----


@given(st.integers(1, 40), st.sampled_from((1, 3, 5, 7)), st.sampled_from((1, 2)))
def test_same_padding_gives_tensorflows_output_side_with_the_odd_zero_last(side: int, kernel: int, stride: int) -> None:
    (before, after), _ = pads("SAME", (side, 1), (kernel, 1), stride)
    assert 0 <= after - before <= 1
    outputs = -(-side // stride)
    assert (side + before + after - kernel) // stride + 1 == outputs or before + after == 0
    assert (before, after) == (0, 0) or (outputs - 1) * stride + kernel == side + before + after


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (3, 2, "SAME"), (5, 2, "SAME"), (1, 2, 0), (1, 1, 1), (3, 2, 0)])
def test_convolutions_are_laxs(size: int, stride: int, padding: Any, images: jax.Array) -> None:
    rng = np.random.default_rng(1)
    around = pads(padding, (9, 9), (size, size), stride)
    for groups in (1, 3):
        kernel = jnp.asarray(rng.normal(size=(size, size, 3 // groups, 3)), jnp.float32)
        numbers = ("NHWC", "HWIO", "NHWC")
        theirs = jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), around, dimension_numbers=numbers, feature_group_count=groups
        )
        np.testing.assert_allclose(conv(images, kernel, stride, padding, groups), theirs, atol=1e-5)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 0)])
def test_max_pool_is_laxs(side: int, size: int, padding: int) -> None:
    from sgdr_jax.models.blocks import MaxPool, Mode

    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, side, side + 1, 3)), jnp.float32)
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    theirs = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, size, size, 1), (1, 2, 2, 1), around)
    np.testing.assert_array_equal(MaxPool(size, padding)(x, Mode()), theirs)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("partial", [False, True])
def test_mean_pool_is_laxs(side: int, partial: bool) -> None:
    from sgdr_jax.models.blocks import MeanPool, Mode

    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, side, side + 1, 3)), jnp.float32)
    around = tuple((0, n % 2 if partial else 0) for n in (0, side, side + 1, 0))
    total, count = (jax.lax.reduce_window(y, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), around) for y in (x, jnp.ones_like(x)))
    np.testing.assert_allclose(MeanPool(partial=partial)(x, Mode()), total / count, atol=1e-6)


@pytest.mark.parametrize("side", [3, 7, 9, 14])
def test_grid_pool_covers_the_image_with_cells(side: int) -> None:
    from sgdr_jax.models.blocks import Mode
    from sgdr_jax.models.head import GridPool

    x = np.random.default_rng(4).normal(size=(2, side, 7, 3)).astype(np.float32)
    rows = [x[:, int(np.floor(i * side / 7)) : int(np.ceil((i + 1) * side / 7))].mean(1) for i in range(7)]
    np.testing.assert_allclose(GridPool(7)(jnp.asarray(x), Mode()), np.stack(rows, 1), atol=1e-6)


@dataclass(frozen=True)
class Parts(Tiny):
    """One of each part that the others lack, and a normalisation after pooling."""

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", "block0", "block1", "block2")

    def modules(self, channels: int) -> dict[str, Any]:
        from sgdr_jax.models.blocks import Conv, LayerNorm, LayerScale, PixelLinear, Residual, ResponseNorm, Sequential, SqueezeExcite

        row = {
            "expand": PixelLinear(4, 8, activation=jax.nn.gelu),
            "response": ResponseNorm(8, 1e-6),
            "project": Conv(1, 8, 4, bias=True),
        }
        return {
            "stem": Conv(3, channels, 4, stride=2, bias=True),
            "block0": LayerNorm(4, 1e-6),
            "block1": Residual(row | {"scale": LayerScale(4)}),
            "block2": Sequential({"conv": Conv(1, 4, 6, bias=True), "squeeze": SqueezeExcite(6, 2, jax.nn.relu, jax.nn.sigmoid)}),
        }

    def after_pool(self) -> Any:
        from sgdr_jax.models.blocks import LayerNorm

        return LayerNorm(6, 1e-6)


def test_every_part_starts_as_said_and_learns(images: jax.Array) -> None:
    network = Parts().build(5)
    params, stats = network.init(jax.random.key(0))
    late = params["late"]
    assert np.all(late["block1"]["scale"]["gamma"] == np.float32(1e-6)) and np.all(late["block1"]["response"]["gain"] == 0)
    assert np.all(late["pool"]["then"]["scale"] == 1)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)

    def loss(params: Any) -> jax.Array:
        return jnp.sum(jnp.square(network.apply(params, stats, images)[0] - 1))

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), path


def test_a_channel_without_any_response_has_a_finite_gradient() -> None:
    from sgdr_jax.models.blocks import Mode, ResponseNorm

    module = ResponseNorm(2, 1e-6)
    x = jnp.asarray(np.random.default_rng(5).normal(size=(1, 3, 3, 2)) * [0, 1], jnp.float32)
    gradient = jax.grad(lambda x: module(x, Mode()).sum())(x)
    assert np.all(np.isfinite(gradient))


def test_the_head_sees_what_the_imagenet_classifier_sees(images: jax.Array) -> None:
    ours, theirs = Parts().build(5), Parts().build(5, reference=True)
    params, stats = ours.init(jax.random.key(0))
    pooled = ours.apply(params, stats, images, stop="head")[0]
    np.testing.assert_array_equal(pooled[:, 6:], theirs.apply(params, stats, images, stop="head")[0])
    assert pooled.shape == (4, 12) and np.all(np.abs(pooled.reshape(4, 2, 6).mean(-1)) < 1e-5)


# ---- Groups ----


def test_default_groups_and_other_cuts() -> None:
    assert all(getattr(models, name)().groups == ("early", "late", "head") for name in models.__all__)
    assert ResNet18().split() == {
        "early": ("stem", "layer1.block0", "layer1.block1", "layer2.block0", "layer2.block1"),
        "late": ("layer3.block0", "layer3.block1", "layer4.block0", "layer4.block1"),
    }
    assert ResNet18(cuts=("layer3.block0",)).split() == ResNet18().split()
    finer = ResNet34(cuts=("layer3.block4", "layer4")).split()
    assert list(finer) == ["stem", "layer3.block4", "layer4"] and finer["layer3.block4"] == ("layer3.block4", "layer3.block5")
    assert EfficientNetLite0().split()["late"][0] == "block5"
    assert VGG16BN().split()["late"][0] == "layer4.block0"
    assert DenseNet121().split()["late"][:2] == ("transition2", "dense3.layer0")
    assert WideResNet(depth=16, cuts=("layer2.block1", "top")).groups == ("stem", "layer2.block1", "top", "head")
    assert ResNet18(cuts=()).groups == ("stem", "head")
    assert ResNet18(cuts=("layer2", "layer4")).groups == ("stem", "layer2", "layer4", "head")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuts": ("layer7",)}, r"'layer7'; ResNet18 can be cut at layer1, layer2, layer3, layer4, and within them, as layer4\.block1$"),
        ({"cuts": ("layer2.block2",)}, "can be cut at"),
        ({"cuts": ("stem",)}, "can be cut at"),
        ({"cuts": ("layer3", "layer2")}, "network order"),
        ({"cuts": ("layer3", "layer3")}, "network order"),
        ({"cuts": ("layer3", "layer3.block0")}, "name each block once"),
        ({"dropout": (0.5, 1.0)}, "model.dropout"),
        ({"hidden": -1}, "model.hidden"),
    ],
)
def test_a_wrong_description_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResNet18(**change)


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        (EfficientNetLite0, "efficientnet_lite0.ra_in1k", "use weights of tf_efficientnet_lite0"),
        (TfEfficientNetB0, "efficientnet_b0.ra_in1k", "use weights of tf_efficientnet_b0, or the model EfficientNetB0"),
        (EfficientNetB0, "tf_efficientnet_b0.ns_jft_in1k", "use weights of efficientnet_b0, or the model TfEfficientNetB0"),
    ],
)
def test_weights_of_the_differently_padded_timm_network_are_refused(model: type[ChainModel], weights: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(weights=f"hf-hub:timm/{weights}")


@pytest.mark.parametrize("model", [model for model in MODELS if issubclass(model, InvertedResiduals | ConvNeXt | CAFormerS18 | SwinV2Tiny)])
def test_the_late_group_has_most_of_the_body_and_the_early_one_some_blocks(model: type[ChainModel]) -> None:
    groups = model().split()
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(shapes[0])) for name, shapes in model().build(10).shapes.items()}
    assert sizes["late"] / (sizes["early"] + sizes["late"]) > 0.8 and len(groups["early"]) >= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 27}, "model.depth is 27; use 6n"),
        ({"depth": 4}, "model.depth is 4; use 6n"),
        ({"widen": 0}, "model.widen is 0"),
        ({"weights": "imagenet"}, "there are none for this network"),
        ({"cuts": ("layer1.block4",)}, r"can be cut at layer1, layer2, layer3, top, and within them, as layer3\.block3$"),
    ],
)
def test_a_wrong_wide_network_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WideResNet(**change)


def test_older_and_other_names_in_files_of_torchvision() -> None:
    names = DenseNet121().names()
    for dot in ("", "."):
        assert names[f"features.denseblock3.denselayer24.norm{dot}2.running_var"] == ("dense3.layer23", "bn2", "var")
        assert names[f"features.denseblock1.denselayer1.conv{dot}1.weight"] == ("dense1.layer0", "conv1", "kernel")
    names = VGG16BN().names()
    assert names["features.40.bias"] == ("layer5.block2", "conv", "bias") and names["features.41.running_mean"][-2:] == ("bn", "mean")
    assert [names[f"classifier.{i}.weight"][:2] for i in (0, 3, 6)] == [("head", "wide1"), ("head", "wide2"), ("head", "linear")]


def test_cuts_only_partition_the_parameters_and_change_nothing(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    other = Tiny(cuts=("block0", "block1")).build(5)
    new_params, _ = other.init(jax.random.key(0))
    assert tuple(params) == ("early", "late", "head") and tuple(new_params) == ("stem", "block0", "block1", "head")
    merged = [{k: v for group in tree if group != "head" for k, v in tree[group].items()} for tree in (params, new_params)]
    assert same(*merged) and same(params["head"], new_params["head"])
    new_stats = {"stem": {"stem": stats["early"]["stem"]}, "block0": {"block0": stats["early"]["block0"]}}
    new_stats |= {"block1": stats["late"], "head": stats["head"]}
    np.testing.assert_array_equal(network.apply(params, stats, images)[0], other.apply(new_params, new_stats, images)[0])


@pytest.mark.parametrize("boundary", ["late", "head"])
def test_stopping_and_going_on_is_running_through(boundary: str, images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    modes = Modes(train=("late", "head"), collect=("late", "head"), key=jax.random.key(3))
    whole, whole_stats = network.apply(params, stats, images, modes=modes)
    below = network.groups[: network.groups.index(boundary)]
    some = {group: params[group] for group in below}
    x, half = network.apply(some, {group: stats[group] for group in below}, images, stop=boundary, modes=modes)
    rest, other = network.apply(
        {group: params[group] for group in network.groups if group not in below},
        {group: stats[group] for group in network.groups if group not in below},
        x,
        start=boundary,
        modes=modes,
    )
    np.testing.assert_array_equal(whole, rest)
    assert same(whole_stats, half | other)
    if boundary == "head":
        assert x.shape == (4, 12) and x.dtype == jnp.float32
        before_pool = x[:, :6], x[:, 6:]
        assert np.all(np.asarray(before_pool[0]) >= np.asarray(before_pool[1]))  # maxima first, then means


def test_only_collecting_groups_touch_their_statistics(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    modes = Modes(train=("late", "head"), collect=("late", "head"), key=jax.random.key(1))
    _, new = jax.jit(lambda s: network.apply(params, s, images, modes=modes))(stats)
    assert same(new["early"], stats["early"])
    assert not same(new["late"], stats["late"]) and not same(new["head"], stats["head"])
    assert jax.tree.structure(new) == jax.tree.structure(stats)
    assert same(network.apply(params, stats, images)[1], stats)
    stored, _ = network.apply(params, stats, images, stop="late")
    np.testing.assert_array_equal(network.apply(params, stats, images, stop="late", modes=Modes(collect=("late", "head")))[0], stored)
    assert not np.array_equal(network.apply(params, stats, images, stop="late", modes=Modes(collect=("early",)))[0], stored)


def test_every_parameter_of_every_group_learns(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    key = jax.random.key(0)

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> jax.Array:
        logits, _ = network.apply(params, stats, images, modes=Modes(train=("head",), collect=("late", "head"), key=key))
        return jnp.sum(jnp.square(logits - 1))

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.all(np.isfinite(leaf)), path
        # A shift ahead of batch normalisation is taken out again by it.
        assert np.any(leaf != 0) or (path[0].key, path[-1].key) in {("late", "bias"), ("head", "bias")}, path


def test_head_is_fastais(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    pooled = np.random.default_rng(4).normal(size=(4, 12)).astype(np.float32)
    p, s = jax.tree.map(np.asarray, (params["head"], stats["head"]))

    def bn(x: np.ndarray, name: str) -> np.ndarray:
        return (x - s[name]["mean"]) / np.sqrt(s[name]["var"] + 1e-5) * p[name]["scale"] + p[name]["bias"]

    hidden = np.maximum(bn(pooled, "bn1") @ p["linear1"]["kernel"] + p["linear1"]["bias"], 0)
    theirs = bn(hidden, "bn2") @ p["linear2"]["kernel"] + p["linear2"]["bias"]
    np.testing.assert_allclose(network.apply(params, stats, jnp.asarray(pooled), start="head")[0], theirs, atol=1e-5)
    assert p["linear1"]["kernel"].std() == pytest.approx(np.sqrt(2 / 12), rel=0.25)
    assert set(Tiny(hidden=0).build(5).shapes["head"][0]) == {"bn2", "linear2"}


def test_dropout_works_in_train_only_needs_a_key_and_keeps_the_mean(images: jax.Array, tiny: Any) -> None:
    from sgdr_jax.models.head import dropout

    network, params, stats = tiny
    plain = network.apply(params, stats, images)[0]
    a, b, c = (network.apply(params, stats, images, modes=Modes(train=("head",), key=jax.random.key(i)))[0] for i in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c) and not np.array_equal(a, plain)
    np.testing.assert_array_equal(network.apply(params, stats, images, modes=Modes(train=("early",), key=jax.random.key(0)))[0], plain)
    np.testing.assert_array_equal(network.apply(params, stats, images, modes=Modes(key=jax.random.key(0)))[0], plain)
    with pytest.raises(ValueError, match="needs a key"):
        network.apply(params, stats, images, modes=Modes(train=("head",)))
    many = dropout(jnp.ones(10_000), 0.25, Mode(), jax.random.key(0))
    assert set(np.unique(many)) == {np.float32(0), np.float32(1 / 0.75)} and float(many.mean()) == pytest.approx(1, abs=0.02)


def test_unknown_groups_are_named(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    whole = Modes()
    for start, stop, modes in (
        ("layer1", None, whole),
        (None, "layer1", whole),
        (None, None, Modes(collect=("layer1",))),
        (None, None, Modes(train=("layer1",))),
    ):
        with pytest.raises(ValueError, match="'layer1'; there are early, late, head"):
            network.apply(params, stats, images, start=start, stop=stop, modes=modes)


def test_bfloat16_is_for_the_bodys_arithmetic_only(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    x, _ = network.apply(params, stats, images, stop="late", dtype=jnp.bfloat16)
    assert x.dtype == jnp.bfloat16
    y, new = network.apply(params, stats, images, modes=Modes(collect=network.groups), dtype=jnp.bfloat16)
    assert y.dtype == jnp.float32 and {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}
    exact, _ = network.apply(params, stats, images, modes=Modes(collect=network.groups))
    assert 0 < np.abs(y - exact).max() < 0.3


def test_a_grey_image_gives_what_its_three_channel_copy_gives(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    grey = Tiny().build(5, channels=1)
    assert same(grey.shapes, network.shapes)
    image = images[..., :1]
    ours = grey.apply(params, stats, image)[0]
    np.testing.assert_array_equal(ours, network.apply(params, stats, jnp.repeat(image, 3, -1))[0])
    assert not np.array_equal(ours, network.apply(params, stats, images)[0])


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_other_channel_counts_repeat_the_mean_and_sd_of_red_green_blue(channels: int, images: jax.Array) -> None:
    network = Tiny().build(5, channels)
    for ours, three in ((network.mean, Tiny.mean), (network.std, Tiny.std)):
        np.testing.assert_array_equal(ours, [np.float32(three[i % 3]) for i in range(channels)])
    params, stats = network.init(jax.random.key(0))
    assert network.apply(params, stats, jnp.tile(images, 2)[..., :channels])[0].shape == (4, 5)


def test_normalised_changes_nothing_else(images: jax.Array, tiny: Any) -> None:
    network, params, stats = tiny
    other = network.normalised([0.5], [0.2, 0.3, 0.4])
    assert other.mean.tolist() == [0.5] * 3 and other.std.dtype == np.float32
    mean, std = (np.asarray(values, np.float32) for values in (network.mean, network.std))
    same_pixels = (images - other.mean) / other.std * std + mean
    np.testing.assert_allclose(other.apply(params, stats, images)[0], network.apply(params, stats, same_pixels)[0], atol=1e-5)


def test_initial_values(tiny: Any) -> None:
    network = ResNet18(hidden=512).build(10)
    params, stats = network.init(jax.random.key(0))
    again, _ = network.init(jax.random.key(0))
    other, _ = network.init(jax.random.key(1))
    assert same(params, again) and not same(params["head"], other["head"])
    kernel = np.asarray(params["late"]["layer3.block1"]["conv1"]["kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01) and abs(kernel.mean()) < 1e-3
    bn = params["early"]["stem"]["conv1"]["bn"]
    assert np.all(bn["scale"] == 1) and np.all(bn["bias"] == 0)
    assert np.all(stats["head"]["bn1"]["mean"] == 0) and np.all(stats["head"]["bn1"]["var"] == 1)


@pytest.mark.parametrize("name", ["ConvNeXtAtto", "DenseNet121", "VGG11BN", "ViTTiny16", "DINOv2ViTSmall14"])
def test_images_that_are_too_small_for_a_network_are_refused_by_the_plan(name: str) -> None:
    """Digits of 28 px ended in a traceback, at the first update."""
    model = networks()[name](weights=None)
    stage = Stage("s", size=model.smallest, lr=0.1, schedule=Sgdr(1))
    plan(Experiment("e", Synthetic(), model, (stage,)), 64)
    x = jax.ShapeDtypeStruct((1, model.smallest, model.smallest, 3), jnp.float32)
    network = model.build(2)
    trees = tuple({group: both[i] for group, both in network.shapes.items()} for i in range(2))
    assert jax.eval_shape(lambda p, s, x: network.apply(p, s, x)[0], *trees, x).shape == (1, 2)
    small = dataclasses.replace(stage, size=(model.smallest - 1, 64))
    with pytest.raises(InputError, match=f'stage "s": size is .*{name} takes images of {model.smallest} pixels or more'):
        plan(Experiment("e", Synthetic(), model, (small,)), 64)
    with pytest.raises((ZeroDivisionError, ValueError, TypeError, IndexError)):
        tiny = jax.ShapeDtypeStruct((1, model.smallest - 1, model.smallest - 1, 3), jnp.float32)
        jax.eval_shape(lambda p, s, x: network.apply(p, s, x)[0], *trees, tiny)


def test_rounded_activations_are_averaged_as_they_are() -> None:
    """jaxlib 0.12.0.1 on CPU gave values that are not finite, or 1e36."""
    network = WideResNet(depth=10, widen=1, weights=None).build(3)
    trees = network.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).random((4, 32, 32, 3)), jnp.float32)
    rounded, exact = (np.asarray(jax.jit(partial(network.apply, dtype=kind))(*trees, x)[0]) for kind in (jnp.bfloat16, jnp.float32))
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
