"""Every network against its peer in timm or torchvision, on the golden files of golden/make_parity.py: a table, a row for each network."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from sgdr_jax import models
from sgdr_jax.models.base import ChainModel, networks
from sgdr_jax.models.chain import Modes, Network
from sgdr_jax.models.pretrained import load, save

GOLDEN = Path(__file__).parents[1] / "golden"


def maker(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parity, drawn = maker("make_parity"), maker("make_models")
# Published numbers of parameters with 1000 classes (timm's results/model_metadata-in1k.csv, torchvision's documentation).
MILLIONS = {
    "CAFormerS18": 26.34,
    "ConvNeXtAtto": 3.70,
    "ConvNeXtBase": 88.59,
    "ConvNeXtFemto": 5.22,
    "ConvNeXtLarge": 197.77,
    "ConvNeXtNano": 15.59,
    "ConvNeXtPico": 9.05,
    "ConvNeXtSmall": 50.22,
    "ConvNeXtTiny": 28.59,
    "ConvNeXtV2Atto": 3.71,
    "ConvNeXtV2Base": 88.72,
    "ConvNeXtV2Femto": 5.23,
    "ConvNeXtV2Nano": 15.62,
    "ConvNeXtV2Pico": 9.07,
    "ConvNeXtV2Tiny": 28.64,
    "EfficientNetB0": 5.29,
    "EfficientNetB1": 7.79,
    "EfficientNetB2": 9.11,
    "EfficientNetB3": 12.23,
    "EfficientNetLite0": 4.65,
    "EfficientNetLite1": 5.42,
    "EfficientNetLite2": 6.09,
    "EfficientNetLite3": 8.20,
    "EfficientNetLite4": 13.01,
    "EfficientNetV2B0": 7.14,
    "EfficientNetV2B1": 8.14,
    "EfficientNetV2B2": 10.10,
    "EfficientNetV2B3": 14.36,
    "EfficientNetV2S": 21.46,
    "EfficientNetV2M": 54.14,
    "EfficientNetV2RwS": 23.94,
    "MobileNetV2": 3.50,
    "MobileNetV4Medium": 9.72,
    "MobileNetV4Small": 3.77,
    "MobileNetV3Large": 5.48,
    "MobileNetV3Small": 2.54,
    "DenseNet121": 7.98,
    "DenseNet161": 28.68,
    "DenseNet169": 14.15,
    "DenseNet201": 20.01,
    "RegNetY002": 3.16,
    "RegNetY004": 4.34,
    "RegNetY006": 6.06,
    "RegNetY008": 6.26,
    "RegNetY016": 11.20,
    "RegNetY032": 19.44,
    "ResNeXt50_32x4d": 25.03,
    "ResNeXt101_32x8d": 88.79,
    "ResNeXt101_64x4d": 83.46,
    "ResNet18": 11.69,
    "ResNet18D": 11.71,
    "ResNet34": 21.80,
    "ResNet34D": 21.82,
    "ResNet50": 25.56,
    "TfEfficientNetB0": 5.29,
    "TfEfficientNetB1": 7.79,
    "TfEfficientNetB2": 9.11,
    "TfEfficientNetB3": 12.23,
    "TorchvisionMobileNetV3Large": 5.48,
    "TorchvisionMobileNetV3Small": 2.54,
    "ResNet50D": 25.58,
    "ResNet101": 44.55,
    "ResNet101D": 44.57,
    "ResNet152": 60.19,
    "SwinV2Tiny": 28.35,
    "VGG11BN": 132.87,
    "VGG13BN": 133.05,
    "VGG16BN": 138.37,
    "VGG19BN": 143.68,
    "ViTTiny16": 5.72,
    "ViTSmall16": 22.05,
    "ViTBase16": 86.57,
    "DeiT3Small16": 22.06,
    "DeiT3Base16": 86.59,
    "CLIPViTBase16": 86.57,
    # timm's numbers without classifier, and ours of a classifier of 1000 classes.
    "CLIPQuickGELUViTBase16": 85.80 + 0.77,
    "SigLIPViTBase16": 92.88 + 0.77,
    "DINOv2ViTSmall14": 22.06 + 0.385,
    "DINOv2ViTBase14": 86.58 + 0.77,
    "DINOv2RegViTSmall14": 22.06 + 0.385,
    "DINOv3ViTSmall16": 21.59 + 0.385,
    "DINOv3ViTSmallPlus16": 28.68 + 0.385,
    "WideResNet": 37.11,  # the paper's 36.48 with ten classes
    "WideResNet50_2": 68.88,
    "WideResNet101_2": 126.89,
}
LONG = (
    "timm/densenet121.ra_in1k",
    "timm/resnext50_32x4d.a1h_in1k",
    "timm/wide_resnet50_2.racm_in1k",
    "timm/caformer_s18.sail_in22k_ft_in1k",
    "timm/tf_efficientnetv2_b0.in1k",
    "timm/convnext_nano.in12k_ft_in1k",
    "timm/regnety_002.pycls_in1k",
    "timm/swinv2_tiny_window8_256.ms_in1k",
)
"""Those that compile for more than ten seconds."""
RUN = [
    pytest.param(row, id=row.peer, marks=[pytest.mark.slow] if row.peer in LONG else []) for row in parity.ROWS if row.waypoints is not None
]


def shapes_of(golden: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the peer's tensors."""
    rows = (line.decode().split() for line in golden["tensors"])
    return {name: tuple(map(int, shape)) for name, *shape in rows}


def close(ours: Any, theirs: np.ndarray, share: float = 1e-4, name: str = "") -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=share * np.abs(theirs).max(), err_msg=name)


def model_of(row: Any, **fields: Any) -> ChainModel:
    """Our network of a row, as small as its peer."""
    model = getattr(models, row.ours)
    known = {field.name for field in dataclasses.fields(model)}
    smaller = type(row.ours, (model,), {name: value for name, value in row.changes.items() if name not in known})
    return smaller(**fields, **{name: value for name, value in row.changes.items() if name in known})


def torch_layout(array: jax.Array) -> np.ndarray:
    """Images [b, h, w, c] as torch has them; tokens and vectors are the same in both."""
    return np.asarray(array).transpose(0, 3, 1, 2) if array.ndim == 4 else np.asarray(array)


@pytest.mark.parametrize("row", parity.ROWS, ids=lambda row: row.peer)
def test_every_tensor_of_the_peer_has_its_place(row: Any) -> None:
    model = model_of(row, weights=None)
    network, names = model.build(parity.CLASSES, reference=True), model.names()
    ours = {}
    for group, trees in network.shapes.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
            ours[("head",) * (group == "head") + tuple(key.key for key in path[1:])] = tuple(leaf.shape)
    theirs = {}
    for name, shape in shapes_of(np.load(row.file)).items():
        assert name in names, f"{name} {shape} has no place"
        assert names[name] not in theirs, f"{name} is not alone in {names[name]}"
        theirs[names[name]] = load._ours(np.broadcast_to(np.float32(0), shape), names[name][-1]).shape
    assert theirs == ours


@pytest.mark.parametrize("name", models.__all__)
def test_the_reference_network_has_the_published_number_of_parameters(name: str) -> None:
    shapes = getattr(models, name)().build(1000, reference=True).shapes
    assert sum(leaf.size for params, _ in shapes.values() for leaf in jax.tree.leaves(params)) == pytest.approx(
        MILLIONS[name] * 1e6, abs=6e3
    )


def test_mean_and_deviation_are_those_of_the_imagenet_weights() -> None:
    found = set()
    for row in parity.ROWS:
        model, golden = getattr(models, row.ours), np.load(row.file)
        if row.peer.startswith("timm/"):
            # timm gives the Lite networks' 127 / 255 and 128 / 255 as 0.5.
            np.testing.assert_allclose((model.mean, model.std), (golden["mean"], golden["std"]), atol=0.003)
            found.add(f"hf-hub:{row.peer}")
    unseen = {name: kind.imagenet or f"hf-hub:timm/{kind.timm}.{kind.weights}" for name, kind in networks().items() if kind.architecture()}
    assert not [name for name, where in unseen.items() if where.startswith("hf-hub:") and where not in found]


def loaded(row: Any, golden: Any, folder: Path) -> tuple[ChainModel, Network, Any, Any]:
    """The network with the peer's weights, which come by a file as a download does; every block is a group, so that it can be looked at."""
    save_file(drawn.weights(shapes_of(golden), row.gain), folder / "model.safetensors")
    model = model_of(row, weights=str(folder / "model.safetensors"), head="classifier")
    model = dataclasses.replace(model, cuts=model.blocks[1:])
    network = dataclasses.replace(model.build(parity.CLASSES), mean=golden["mean"], std=golden["std"])
    zeros = [
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), {group: trees[i] for group, trees in network.shapes.items()})
        for i in (0, 1)
    ]
    params, stats, _ = load.load_into(model, network, *zeros)
    return model, network, params, stats


def gradients(network: Network, params: Any, stats: Any, images: np.ndarray) -> Any:
    """Gradients of the mean cross-entropy in training, for labels 0, 1, …

    Float64 where there is batch normalisation: over as few as 12 numbers it magnifies float32's rounding to 1e-3.
    """
    double = bool(jax.tree.leaves(stats))
    dtype = jnp.float64 if double else jnp.float32
    network = dataclasses.replace(network, mean=network.mean.astype(dtype), std=network.std.astype(dtype))

    def loss(params: Any, stats: Any) -> jax.Array:
        logits, _ = network.apply(params, stats, jnp.asarray(images, dtype) / 255, modes=Modes(collect=network.groups), dtype=dtype)
        return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits)))

    with jax.enable_x64(double):
        return jax.jit(jax.grad(loss))(*jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, stats)))


def leaf_of(trees: Any, model: ChainModel, tensor: str) -> np.ndarray:
    """Our leaf of the peer's tensor, in trees whose groups are the blocks; pooling is in the last one's."""
    block, *path = model.names()[tensor]
    leaf = trees["head"] if block == "head" else trees[model.blocks[-1] if block == "pool" else block][block]
    for key in path:
        leaf = leaf[key]
    return np.asarray(leaf)


def compare_gradients(golden: Any, model: ChainModel, trees: Any) -> None:
    for name, theirs in zip((name.decode() for name in golden["slopes"]), golden["gradients"], strict=True):
        ours = save._torch(leaf_of(trees, model, name))
        close(parity.sketch(ours[None], name)[0], theirs, name=f"gradient of {name}")


@pytest.mark.parametrize("row", RUN)
def test_answers_are_the_peers(row: Any, tmp_path: Path) -> None:
    golden = np.load(row.file)
    model, network, params, stats = loaded(row, golden, tmp_path)
    photo = np.load(GOLDEN / "models.npz")["photo"]
    pixels = parity.images(row, photo, drawn.crops(photo))
    images = jnp.asarray(pixels, jnp.float32) / 255
    blocks = [name.decode() for name in golden["blocks"]]
    assert blocks[-1] == model.blocks[-1] and set(blocks) <= set(model.blocks)

    @jax.jit
    def run(
        params: Any, stats: Any, x: jax.Array
    ) -> tuple[dict[str, jax.Array], jax.Array]:  # constants would be folded, which takes longer
        seen = {}
        for block, start, stop in zip(model.blocks, network.groups, network.groups[1:], strict=False):
            x, _ = network.apply(params, stats, x, start=start, stop=stop)
            seen[block] = x
        logits, _ = network.apply(params, stats, x, start="head")
        seen[blocks[-1]] = x.mean((1, 2)) if x.ndim == 4 else x
        return {name: seen[name] for name in blocks}, logits

    seen, logits = run(params, stats, images)
    for name, theirs in zip(blocks, golden["waypoints"], strict=True):
        array = np.asarray(seen[name]) if row.channels_last else torch_layout(seen[name])
        close(parity.sketch(array, name), theirs, name=name)
    close(logits, golden["logits"])
    if "slopes" in golden:
        compare_gradients(golden, model, gradients(network, params, stats, pixels))
    if "norms" not in golden:
        assert not jax.tree.leaves(stats)
        return

    logits, new = jax.jit(lambda *trees: network.apply(*trees, modes=Modes(collect=network.groups)))(params, stats, images)
    close(logits, golden["train_logits"], 1e-3)  # dozens of normalisations over as few as 12 numbers each magnify float32's rounding
    for norm, theirs in zip((name.decode() for name in golden["norms"]), golden["statistics"], strict=True):
        for kind, value in zip(("mean", "var"), theirs, strict=True):
            ours = leaf_of(new, model, f"{norm}.running_{kind}")
            close(parity.sketch(ours[None], norm)[0], value, name=f"{norm}.running_{kind}")
