"""Vision Transformers: positions against timm's, attention against its formula, pooling, groups, tokens; parity is in test_parity.py."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.optimizers import Sgd
from sgdr_jax.core.state import Hyper
from sgdr_jax.evaluation.grad_cam import grad_cam
from sgdr_jax.models import (
    CLIPQuickGELUViTBase16,
    CLIPViTBase16,
    DeiT3Small16,
    DINOv2RegViTSmall14,
    DINOv3ViTSmall16,
    SigLIPViTBase16,
    ViTSmall16,
    layers,
    summary,
)
from sgdr_jax.models.attention import Attention
from sgdr_jax.models.blocks import Mode
from sgdr_jax.models.position_embedding import PositionEmbedding, rotated, rotations
from sgdr_jax.models.pretrained.save import timm_weights
from sgdr_jax.models.vit import ViT

from ..helpers import seeded

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_positions", GOLDEN / "make_positions.py")
assert spec and spec.loader
positions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(positions)


@dataclasses.dataclass(frozen=True)
class Small(ViTSmall16):
    """Two blocks of one head."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("block1",)

    features: ClassVar = 64
    depth: ClassVar = 2
    size: ClassVar = 64


@dataclasses.dataclass(frozen=True)
class SmallDINOv3(DINOv3ViTSmall16):
    """Two blocks of one head, rotary positions and registers."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("block1",)

    features: ClassVar = 64
    depth: ClassVar = 2


@dataclasses.dataclass(frozen=True)
class SmallDeiT3(DeiT3Small16):
    """Two blocks of one head, positions of the patches only."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("block1",)

    features: ClassVar = 64
    depth: ClassVar = 2
    size: ClassVar = 64


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(size=(2, 64, 64, 3)), jnp.float32)


def start(model: ViT, **options: Any) -> tuple[Any, Any, Any]:
    network = model.build(5, **options)
    return network, *network.init(jax.random.key(0))


# ---- Positions ----


@pytest.mark.parametrize(("old", "new"), positions.SIDES)
def test_resized_positions_are_timm_s(old: int, new: int) -> None:
    module = PositionEmbedding(positions.FEATURES, (old, old), positions.PREFIX)
    module.embedding.set_value(jnp.asarray(positions.embedding(old)))
    np.testing.assert_allclose(module((new, new)), np.load(GOLDEN / "positions.npz")[f"{old} {new}"], rtol=0, atol=1e-5)


def test_positions_of_another_size_are_the_resized_ones_and_the_parameter_keeps_its_shape() -> None:
    """At 288 pixels, in the whole network: the same answer as from parameters with a grid of 18 · 18."""
    network, params, stats = start(ViTSmall16(weights=None))
    large = type("Large", (ViTSmall16,), {"size": 288})(weights=None).build(5)
    other = jax.tree.map(lambda leaf: leaf, params)
    patch = other["early"]["patch"]
    table = np.asarray(patch["positions"]["embedding"])
    assert table.shape == (1, 1 + 14 * 14, 384)
    moved = PositionEmbedding(384, (14, 14), 1)
    moved.embedding.set_value(jnp.asarray(table))
    other["early"] = params["early"] | {"patch": patch | {"positions": {"embedding": moved((18, 18))}}}
    assert large.shapes["early"][0]["patch"]["positions"]["embedding"].shape == (1, 1 + 18 * 18, 384)
    x = jnp.asarray(np.random.default_rng(1).uniform(size=(1, 288, 288, 3)), jnp.float32)
    ours, theirs = (jax.jit(net.apply)(p, stats, x)[0] for net, p in ((network, params), (large, other)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
@settings(seeded, max_examples=20)
def test_rotations_keep_lengths_and_products_depend_on_distance_alone(rows: int, columns: int, seed: int) -> None:
    cos, sin = rotations((rows, columns), 16)
    query, key = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 16)), jnp.float32)
    turned = [np.asarray(rotated(jnp.broadcast_to(x, (1, rows * columns, 1, 16)), cos, sin))[0, :, 0] for x in (query, key)]
    np.testing.assert_allclose(np.linalg.norm(turned[0], axis=-1), np.linalg.norm(query), rtol=1e-5)
    products = (turned[0] @ turned[1].T).reshape(rows, columns, rows, columns)
    np.testing.assert_allclose(products[:-1, :-1, :-1, :-1], products[1:, 1:, 1:, 1:], atol=1e-4)


def test_rotary_positions_need_square_images() -> None:
    network, params, stats = start(SmallDINOv3())
    with pytest.raises(ValueError, match="need square images; these have 12 patches"):
        network.apply(params, stats, jnp.zeros((1, 48, 64, 3)))


def test_pixels_that_fill_no_patch_are_left_out(images: jax.Array) -> None:
    network, params, stats = start(Small())
    wider = jnp.pad(images, ((0, 0), (0, 15), (0, 9), (0, 0)), constant_values=0.7)
    np.testing.assert_array_equal(network.apply(params, stats, images)[0], network.apply(params, stats, wider)[0])


# ---- Attention ----


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_follows_its_formula(dtype: Any) -> None:
    """The scores reach 40, where a softmax in bfloat16 would be off by a tenth."""
    drawn = np.random.default_rng(2).normal(size=(3, 2, 7, 4, 16)) * np.array([3, 3, 1]).reshape(3, 1, 1, 1, 1)
    query, key, value = (jnp.asarray(x, dtype) for x in drawn)
    wide = [np.asarray(x, np.float64) for x in (query, key, value)]
    scores = np.einsum("bqhd,bkhd->bhqk", *wide[:2]) / 4
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bhqk,bkhd->bqhd", shares / shares.sum(-1, keepdims=True), wide[2])
    found = layers.attention(query, key, value)
    assert found.dtype == dtype and np.abs(scores).max() > 20
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=1e-5 if dtype == jnp.float32 else 0.02)


def test_attention_s_gradients_are_those_of_its_formula() -> None:
    def plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / 4), value)

    given = [jnp.asarray(x, jnp.float32) for x in np.random.default_rng(3).normal(size=(3, 2, 7, 4, 16))]
    ours, theirs = (jax.grad(lambda *x, f=f: jnp.sum(jnp.sin(f(*x))), (0, 1, 2))(*given) for f in (layers.attention, plain))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_tokens_before_the_patches_have_no_rotary_position() -> None:
    """A network without positions in its input gives permuted answers for permuted registers."""
    module = Attention(32, 2, bias=False, rotary=True, prefix=5)
    rng = np.random.default_rng(4)
    for part in (module.qkv, module.project):
        part.kernel.set_value(jnp.asarray(rng.normal(size=part.kernel[...].shape) / 5, jnp.float32))
    x = jnp.asarray(rng.normal(size=(1, 5 + 9, 32)), jnp.float32)
    order = np.array([0, 4, 2, 1, 3, *range(5, 14)])
    np.testing.assert_allclose(module(x[:, order], Mode()), module(x, Mode())[:, order], atol=1e-5)
    swapped = np.array([*range(5), 6, 5, *range(7, 14)])
    assert np.abs(np.asarray(module(x[:, swapped], Mode()) - module(x, Mode())[:, swapped])).max() > 1e-3


# ---- The chain ----


@pytest.mark.parametrize("kind", [ViTSmall16, CLIPViTBase16, SigLIPViTBase16, DINOv2RegViTSmall14, DINOv3ViTSmall16])
def test_the_body_has_three_groups_and_no_statistics(kind: type[ViT]) -> None:
    network = kind(weights=None).build(5)
    assert network.groups == ("early", "late", "head")
    assert not jax.tree.leaves([network.shapes[group][1] for group in ("early", "late")]) and jax.tree.leaves(network.shapes["head"][1])
    assert kind(cuts=tuple(f"block{i}" for i in range(12))).groups == ("patch", *(f"block{i}" for i in range(12)), "head")


@pytest.mark.parametrize("model", [Small(), SmallDINOv3()])
def test_the_new_head_gets_the_class_token_and_the_mean_of_the_patches(model: ViT, images: jax.Array) -> None:
    network, params, stats = start(model)
    pooled = network.apply(params, stats, images, stop="head")[0]
    finest = dataclasses.replace(model, cuts=("block1", "norm")).build(5)
    block = {"block1": params["late"]["block1"]}
    trees = {"patch": params["early"], "block1": block}, stats | {"patch": {}, "block1": {}}
    tokens = finest.apply(*trees, images, stop="norm")[0]
    mean, sd = tokens.mean(-1, keepdims=True), tokens.std(-1, keepdims=True)
    normed = (tokens - mean) / np.sqrt(np.square(sd) + model.eps)
    assert tokens.shape == (2, model.prefix + 16, 64) and pooled.dtype == jnp.float32
    np.testing.assert_allclose(pooled, np.concatenate([normed[:, 0], normed[:, model.prefix :].mean(1)], 1), atol=1e-4)


def test_tokens_start_small_and_differ() -> None:
    _, params, _ = start(SmallDINOv3())
    patch = params["early"]["patch"]
    assert patch["registers"].shape == (1, 4, 64) and patch["registers"].std() == pytest.approx(0.02, rel=0.2)
    assert patch["token"].shape == (1, 1, 64) and patch["token"].std() > 0.01


def test_every_parameter_learns(images: jax.Array) -> None:
    for model in (Small(), SmallDINOv3()):
        network, params, stats = start(model)
        params = jax.tree.map(lambda leaf: leaf + 0.1, params)
        slopes = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(network.apply(p, stats, images)[0] - 1))))(params)  # noqa: B023
        for path, leaf in jax.tree_util.tree_leaves_with_path(slopes):
            assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), path


def test_in_bfloat16_the_answers_are_nearly_the_same(images: jax.Array) -> None:
    network, params, stats = start(Small())
    exact, rough = (np.asarray(network.apply(params, stats, images, stop="head", dtype=dtype)[0]) for dtype in (jnp.float32, jnp.bfloat16))
    assert rough.dtype == np.float32 and 0 < np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("model", [Small(), SmallDINOv3(), SmallDeiT3()])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_gradients_lower_for_accelerators_without_gathers(model: ViT, dtype: Any, platform: str) -> None:
    network, params, stats = start(model)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(network.apply(params, stats, x, dtype=dtype)[0])

    with layers.portable(), jax.numpy_dtype_promotion("standard"):  # JAX's attention adds float32 to bfloat16
        traced = jax.jit(jax.grad(loss)).trace(params, jax.ShapeDtypeStruct((2, 48, 48, 3), jnp.float32))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "dot_general" in text and "gather" not in text and "scatter" not in text


@pytest.mark.parametrize("model", [Small(), SmallDINOv3(), Small(head="classifier")])
def test_class_maps_are_of_the_patches(model: ViT, images: jax.Array) -> None:
    network, params, stats = start(model)
    body, rest = network.at_maps(params, stats)
    assert body(images).shape == (2, model.prefix + 16, 64)
    np.testing.assert_allclose(rest(body(images)), network.apply(params, stats, images)[0], atol=1e-5)
    maps = grad_cam(network, params, stats, images, jnp.array([0, 3]))
    assert maps.shape == (2, 64, 64) and np.all(np.isfinite(maps)) and np.max(maps) > 0.5


def test_the_summary_counts_attention() -> None:
    rows = summary.blocks(ViTSmall16(weights=None))
    linear, products = 12 * 384 * 384 * 197, 2 * 197 * 197 * 384
    assert rows[1].macs == linear + products and rows[1].output == (197, 384) and rows[0].macs == 196 * 768 * 384


def test_weight_decay_spares_what_timm_spares() -> None:
    """Tokens, positions, biases, normalisation and layer scales; `no_weight_decay` of timm's Vision Transformer, and one dimension."""
    for model in (Small(), SmallDINOv3()):
        network, params, _ = start(model)
        rule = Sgd(weight_decay=1.0).rule(1.0, Hyper(1.0, 0.0, 1.0, 0.0))
        updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), jax.tree.map(jnp.ones_like, params))
        decayed = {path[-1].key for path, leaf in jax.tree_util.tree_leaves_with_path(updates) if np.any(leaf != 0)}
        assert decayed == {"kernel"} and network.groups[-1] == "head"


# ---- Weights ----


def test_timm_has_no_pooling_like_the_new_head_s(images: jax.Array) -> None:
    _, params, stats = start(Small())
    with pytest.raises(InputError, match="model is 'Small'; timm has no pooling that joins class token and mean; export it to stablehlo"):
        timm_weights(Small(), params, stats)
    _, params, stats = start(Small(head="classifier"))
    assert timm_weights(Small(head="classifier"), params, stats).pool == "token"


@pytest.mark.parametrize("tag", ["openai", "metaclip_400m", "metaclip_2pt5b"])
def test_weights_trained_with_the_other_gelu_are_refused(tag: str) -> None:
    weights = f"hf-hub:timm/vit_base_patch16_clip_224.{tag}"
    with pytest.raises(InputError, match=f"model.weights is '{weights}'; .* use the model CLIPQuickGELUViTBase16"):
        CLIPViTBase16(weights=weights)
    assert CLIPQuickGELUViTBase16(weights=weights).weights == weights
    with pytest.raises(InputError, match="use the model CLIPViTBase16"):
        CLIPQuickGELUViTBase16(weights="hf-hub:timm/vit_base_patch16_clip_224.laion2b")
    assert CLIPViTBase16(weights="hf-hub:timm/vit_base_patch16_clip_224.laion2b").weights
