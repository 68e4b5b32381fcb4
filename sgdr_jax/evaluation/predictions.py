"""Predictions of a finished run for each held-out example, one small file per split, for paired comparisons of runs.

examples-<split>.npz holds arrays in the order of the split, compressed (about nine bytes per example and view);
examples-<split>-<network>.npz holds those of a network other than the final one:

    names                   SHA-256 of the examples' names in order, 32 bytes: equal for files of the same examples
    labels                  uint8 or uint16 [n], or 0 and 1 [n, classes] for multi-label data
    predicted, loss, …      the fields of `ExamplePredictions` from the plain view
    tta_predicted, …        from all test-time views mixed, if there are several
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.lib.format import read_array

from ..core.errors import InputError
from ..core.files import replacing


class ExamplePredictions(NamedTuple):
    """Predictions of a network for n labelled examples.

    Attributes:
        predicted: likeliest class, int [n]; or whether the probability of each class is above the network's threshold (in files of
            earlier versions: above one half), [n, classes].
        loss: -log of the true class's probability, float32 [n]; for multi-label data the mean over classes of the binary cross-entropy.
        confidence: probability of the predicted class, float [n], kept as float16; for multi-label data of the least certain decision,
            min_c max(p_c, 1 - p_c). Files of earlier versions have none.
        reliability: `calibration.reliability` before and, if a temperature was fitted, after it is applied, float64 [1 or 2, 3, bins] with
            the rows count, confidence and frequency. Files of earlier versions have none.
    """

    predicted: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray | None = None
    reliability: np.ndarray | None = None

    @property
    def probability(self) -> Float[np.ndarray, " n"]:
        """Probability of the true class, exp(-loss)."""
        return np.exp(-self.loss.astype(np.float64))


class SplitPredictions(NamedTuple):
    """Predictions for the examples of a split.

    Attributes:
        names: digest of the examples' names, in order.
        labels: the true classes, like `ExamplePredictions.predicted`.
        plain: from the plain view.
        tta: from all views mixed; None if there was one view.
    """

    names: str
    labels: np.ndarray
    plain: ExamplePredictions
    tta: ExamplePredictions | None

    def correct(self, tta: bool = False) -> np.ndarray:
        """Return whether each prediction is correct, bool [n], for multi-label data in all classes; `tta` falls back to the plain view."""
        predictions = self.tta if tta and self.tta else self.plain
        equal = predictions.predicted == self.labels
        return equal if equal.ndim == 1 else equal.all(axis=1)


_ANSWERS = ("names.npy", "labels.npy", "predicted.npy")
"""Ends of the names of the arrays that say which answers are right."""


def path_of(folder: str | Path, split: str, network: str = "") -> Path:
    """Return the path of the predictions for a split in a run folder; `network` names one other than the final network.

    >>> path_of("run", "test", "ensemble, chosen").name
    'examples-test-ensemble-chosen.npz'
    """
    return Path(folder) / ("-".join(["examples", split, *re.findall(r"\w+", network)]) + ".npz")


def save(
    folder: str | Path, split: str, names: Sequence[str], labels: np.ndarray, predictions: Sequence[ExamplePredictions], network: str = ""
) -> Path:
    """Save the predictions for a split, atomically; return the path.

    Args:
        folder: the run folder.
        split: name of the split.
        names: of the n examples.
        labels: int [n] or zeros and ones [n, classes].
        predictions: from the plain view and, if there are several, from all views mixed.
        network: name of a network other than the final one.
    """
    arrays = {"names": np.frombuffer(bytes.fromhex(names_digest(names)), np.uint8), "labels": _small(labels)}
    for prefix, each in zip(("", "tta_"), predictions, strict=False):
        arrays |= {f"{prefix}predicted": _small(each.predicted), f"{prefix}loss": each.loss.astype(np.float32)}
        if each.confidence is not None:
            arrays[f"{prefix}confidence"] = each.confidence.astype(np.float16)
        if each.reliability is not None:
            arrays[f"{prefix}reliability"] = each.reliability
    path = path_of(folder, split, network)
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
    return path


def load(folder: str | Path, split: str, network: str = "", *, measures: bool = True) -> SplitPredictions | None:
    """Load the predictions for a split; return None if there is no such file.

    Args:
        folder: the run folder.
        split: name of the split.
        network: name of a network other than the final one.
        measures: load losses, confidences and reliabilities too; without them there are none, and it takes half as long.

    Raises:
        InputError: if the file is damaged.
    """
    path = path_of(folder, split, network)
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # np.load would read each array in many small pieces
            files = [name for name in archive.namelist() if measures or name.endswith(_ANSWERS)]
            arrays = {name.removesuffix(".npy"): read_array(io.BytesIO(archive.read(name)), allow_pickle=False) for name in files}
        plain, tta = (_kind(arrays, prefix, measures) if f"{prefix}predicted" in arrays else None for prefix in ("", "tta_"))
        assert plain is not None
        return SplitPredictions(arrays["names"].tobytes().hex(), arrays["labels"], plain, tta)
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many kinds
        raise InputError(f"{path} is damaged ({error or 'incomplete'}); run its experiment again") from error


def _kind(arrays: Mapping[str, np.ndarray], prefix: str, measures: bool) -> ExamplePredictions:
    """Return the predictions of the plain view (prefix "") or of all views ("tta_"). Raises KeyError where they are incomplete."""
    optional = (arrays.get(f"{prefix}{name}") for name in ("confidence", "reliability"))
    loss = arrays[f"{prefix}loss"] if measures else np.empty(0, np.float32)
    return ExamplePredictions(arrays[f"{prefix}predicted"], loss, *optional)


def names_digest(names: Sequence[str]) -> str:
    """Return the digest of names in order, as `SplitPredictions.names` has it.

    >>> names_digest(["a", "b"])[:8]
    '59b271ae'
    """
    return hashlib.sha256(b"\0".join(map(os.fsencode, names))).hexdigest()


def _small(classes: np.ndarray) -> np.ndarray:
    """Convert classes to the smallest unsigned type."""
    return classes.astype(np.min_scalar_type(int(classes.max(initial=0))))
