"""Predictions of a finished run for each held-out example, one small file per split, for paired comparisons of runs.

examples-<split>.npz holds arrays in the order of the split, compressed (about seven bytes per example and view);
examples-<split>-<network>.npz holds those of a network other than the final one:

    names                   SHA-256 of the examples' names in order, 32 bytes: equal for files of the same examples
    labels                  uint8 or uint16 [n], or 0 and 1 [n, classes] for multi-label data
    predicted, loss         of the plain view: the likeliest class, like the labels, and -log of the true class's probability
    tta_predicted, tta_loss of all test-time views mixed, if there are several
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..core.errors import InputError
from ..core.files import replacing


class ExamplePredictions(NamedTuple):
    """Predictions of a network for n labelled examples.

    Attributes:
        predicted: likeliest class, int [n]; or whether each class is likelier than not, [n, classes].
        loss: -log of the true class's probability, float32 [n]; for multi-label data the mean over classes of the binary cross-entropy.
    """

    predicted: np.ndarray
    loss: np.ndarray

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
    digest = hashlib.sha256(b"\0".join(map(os.fsencode, names))).digest()
    arrays = {"names": np.frombuffer(digest, np.uint8), "labels": _small(labels)}
    for prefix, each in zip(("", "tta_"), predictions, strict=False):
        arrays |= {f"{prefix}predicted": _small(each.predicted), f"{prefix}loss": each.loss.astype(np.float32)}
    path = path_of(folder, split, network)
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
    return path


def load(folder: str | Path, split: str, network: str = "") -> SplitPredictions | None:
    """Load the predictions for a split; return None if there is no such file.

    Raises:
        InputError: if the file is damaged.
    """
    path = path_of(folder, split, network)
    if not path.exists():
        return None
    try:
        # NumPy would leave the file of a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        plain, tta = (
            ExamplePredictions(arrays[f"{prefix}predicted"], arrays[f"{prefix}loss"]) if f"{prefix}loss" in arrays else None
            for prefix in ("", "tta_")
        )
        assert plain is not None
        return SplitPredictions(arrays["names"].tobytes().hex(), arrays["labels"], plain, tta)
    except (AssertionError, KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error or 'incomplete'}); run its experiment again") from error


def _small(classes: np.ndarray) -> np.ndarray:
    """Convert classes to the smallest unsigned type."""
    return classes.astype(np.min_scalar_type(int(classes.max(initial=0))))
