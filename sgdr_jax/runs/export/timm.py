"""safetensors with timm's names, a config.json as on the Hugging Face hub, and the program that loads both into timm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ...augment import kernel
from ...core.validation import require
from ...models.base import ChainModel
from ...models.pretrained.load import load_into
from ...models.pretrained.read import read_weights
from ...models.pretrained.save import TimmWeights, timm_weights, write_tensors
from ..predictor import Predictor

FILE, CONFIG = "model.safetensors", "config.json"
CROP_MODES = {"crop": "center", "squish": "squash", "pad": "border"}
"""timm's names of `Experiment.resize`; its border has the mean colour, ours is black."""


def write(net: Predictor, folder: Path) -> None:
    """Write the tensors and the config. Raises InputError if timm cannot represent the network."""
    weights, options = _weights(net), _model(net).timm_options(net.size)
    write_tensors(weights.tensors, folder / FILE)
    network = net.programs.network
    classes = len(net.classes)
    pretrained = {
        "input_size": list(_size(net)),
        "fixed_input_size": False,
        "interpolation": network.plain.interpolation,
        "crop_pct": network.plain.crop,
        "crop_mode": CROP_MODES[net.experiment.resize],
        "mean": network.mean.tolist(),
        "std": network.std.tolist(),
        "num_classes": classes,
        "classifier": weights.classifier,
        "label_names": list(net.classes),
    }
    config = {
        "architecture": _model(net).architecture(),
        "num_classes": classes,
        "num_features": weights.layers[0],
        "global_pool": weights.pool,
        "pretrained_cfg": pretrained,
    }
    config |= {"model_args": options} if options else {}
    config |= {"threshold": net.threshold(1)} if net.multi_label else {}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors="surrogateescape")


def read(net: Predictor, folder: Path, images: np.ndarray) -> np.ndarray:
    """Return the logits [n, classes] of the written tensors for stored images, computed as timm does."""
    model, network, tensors = _model(net), net.programs.network, read_weights(folder / FILE)
    weights = _weights(net)
    params, stats = network.init(jax.random.key(0))
    if model.head == "classifier":
        params, stats, _ = load_into(replace(model, weights=str(folder / FILE)), network, params, stats)
        return np.asarray(jax.jit(lambda some: network.apply(params, stats, kernel.resize(some, net.size, network.plain))[0])(images))
    body = {name: array for name, array in tensors.items() if not name.startswith(f"{weights.classifier}.")}
    write_tensors(body, folder / f"body-{FILE}")
    try:
        params, stats, _ = load_into(replace(model, weights=str(folder / f"body-{FILE}")), network, params, stats)
    finally:
        (folder / f"body-{FILE}").unlink()
    features = jax.jit(lambda some: network.apply(params, stats, kernel.resize(some, net.size, network.plain), stop="head")[0])(images)
    x = np.concatenate([*reversed(np.split(np.asarray(features), 2, axis=1))], axis=1)  # the mean first
    for i, module in enumerate(_modules(weights)):
        x = np.asarray(jnp.maximum(x, 0)) if i else x
        x = x @ tensors[f"{module}.weight"].T + tensors[f"{module}.bias"]
    return x


def example(net: Predictor) -> str:
    """Return a program that uses the files."""
    weights, name, plain = _weights(net), _model(net).architecture(), net.programs.network.plain
    sizes = "".join(f", {key}={value}" for key, value in _model(net).timm_options(net.size).items())
    if len(weights.layers) == 2:
        classes = weights.layers[-1]
        made = f'network = timm.create_model("{name}", num_classes={classes}, global_pool="{weights.pool}"{sizes})'
    else:
        layers = ", torch.nn.ReLU(), ".join(f"torch.nn.Linear({a}, {b})" for a, b in zip(weights.layers, weights.layers[1:], strict=False))
        made = f'network = timm.create_model("{name}", num_classes=0, global_pool="{weights.pool}"{sizes})\n'
        made += f"network.{weights.classifier} = torch.nn.Sequential({layers})"
    config = f"timm.data.create_transform(({', '.join(map(str, _size(net)))}), mean={_rounded(net, 'mean')}, std={_rounded(net, 'std')}, "
    square = "" if net.experiment.resize == "crop" else f', crop_mode="{CROP_MODES[net.experiment.resize]}"'
    mode = '.convert("L").convert("RGB")' if net.channels == 1 else '.convert("RGB")'
    return f'''import timm
import torch
from images import upright  # the file beside this one
from PIL import Image
from safetensors.torch import load_file

{made}
network.load_state_dict(load_file("{FILE}"))
network.eval()
transform = {config}interpolation="{plain.interpolation}", crop_pct={plain.crop}{square})
with torch.inference_mode():
    logits = network(torch.stack([transform(upright(Image.open(path)){mode}) for path in paths]))'''


def _size(net: Predictor) -> tuple[int, int, int]:
    return 3, net.size, net.size


def _rounded(net: Predictor, name: str) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in getattr(net.programs.network, name).tolist())


def _modules(weights: TimmWeights) -> list[str]:
    count = len(weights.layers) - 1
    return [weights.classifier] if count == 1 else [f"{weights.classifier}.{2 * i}" for i in range(count)]


def _model(net: Predictor) -> ChainModel:
    model = net.experiment.model
    require(isinstance(model, ChainModel), "model", type(model).__name__, "timm has no such network; export it to stablehlo")
    assert isinstance(model, ChainModel)
    return model


def _weights(net: Predictor) -> TimmWeights:
    return timm_weights(_model(net), net.params, net.stats)
