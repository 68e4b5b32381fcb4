"""ONNX by jax2onnx, which onnxruntime and other runtimes run on any number of images."""

# pyright: reportMissingImports=false
# jax2onnx is installed by hand, since it asks for an older orbax.

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import jax
import numpy as np

from ...core.errors import InputError
from ..predictor import Predictor
from .network import portable_logits, stored_code

FILE = "model.onnx"
EXAMPLE = f'''import numpy as np
import onnxruntime
from images import square  # the file beside this one
from PIL import Image

network = onnxruntime.InferenceSession("{FILE}")
images = {{stored}}
(logits,) = network.run(None, {{{{network.get_inputs()[0].name: images.astype(np.float32)}}}})  # 0…255'''


def write(net: Predictor, folder: Path) -> None:
    """Write the network, with resizing and normalisation inside. Raises InputError if jax2onnx is not installed."""
    logits = portable_logits(net)

    def flat(images: jax.Array) -> jax.Array:
        with jax.disable_jit():  # the converter does not know functions within the function
            return logits(images)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about float64, which it tries
            # jax2onnx shows a traceback for each library that only its examples need.
            for name in ("jax2onnx", "onnx_ir"):
                logging.getLogger(name).setLevel(logging.ERROR)
            from jax2onnx import to_onnx

            model = to_onnx(flat, [("B", net.canvas, net.canvas, net.channels)], model_name="sgdr_jax")
    except ImportError as error:
        # Its own requirements would replace orbax by an older one; converting needs none of the others.
        install = "pip install onnx onnx-ir onnxruntime && pip install --no-deps jax2onnx"
        raise InputError(f"ONNX files need jax2onnx and onnxruntime; run: {install}") from error
    (folder / FILE).write_bytes(model.SerializeToString())


def read(net: Predictor, folder: Path, images: np.ndarray) -> np.ndarray:
    """Return the logits [n, classes] that onnxruntime computes from the written file for stored images."""
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / FILE)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.astype(np.float32)})
    return np.asarray(logits)


def example(net: Predictor) -> str:
    """Return a program that uses the file."""
    return EXAMPLE.format(stored=stored_code(net))
