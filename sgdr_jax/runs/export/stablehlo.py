"""StableHLO by `jax.export`: one file that jax alone loads and runs, on any number of images, on CPU, GPU and TPU."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from jax import export

from ...core.errors import InputError
from ..predictor import Predictor
from .network import portable_logits, stored_code

FILE = "model.stablehlo"
EXAMPLE = f'''import numpy as np
from images import square  # the file beside this one
from jax import export
from PIL import Image

network = export.deserialize(open("{FILE}", "rb").read())
images = {{stored}}
logits = network.call(images)  # uint8 [n, {{canvas}}, {{canvas}}, {{channels}}] to float32 [n, {{classes}}]'''


def write(net: Predictor, folder: Path) -> None:
    """Write the network, with resizing and normalisation inside. Raises InputError if flatbuffers is not installed."""
    (batch,) = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, net.canvas, net.canvas, net.channels), np.uint8)
    exported = export.export(jax.jit(portable_logits(net)), platforms=("cpu", "cuda", "tpu"))(shape)
    try:
        blob = exported.serialize()
    except ImportError as error:
        raise InputError("StableHLO files need flatbuffers; run: pip install flatbuffers (extra: export)") from error
    (folder / FILE).write_bytes(blob)


def read(net: Predictor, folder: Path, images: np.ndarray) -> np.ndarray:
    """Return the logits [n, classes] that the written file gives stored images."""
    return np.asarray(export.deserialize(bytearray((folder / FILE).read_bytes())).call(images))


def example(net: Predictor) -> str:
    """Return a program that uses the file."""
    return EXAMPLE.format(
        canvas=net.canvas,
        stored=stored_code(net),
        channels=net.channels,
        classes=len(net.classes),
    )
