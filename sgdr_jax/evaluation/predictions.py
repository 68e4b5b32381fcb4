"""What a finished run said of each held-out example: one small file for each split, so that runs can be compared example by example.

examples-<split>.npz holds arrays in the order of the split, compressed (about seven bytes an example and answer), and
examples-<split>-<network>.npz what another network than the final one said:

    names                   SHA-256 of the examples' names in their order, 32 bytes: two files with the same are of the same examples
    labels                  uint8 or uint16 [n], or 0 and 1 [n, classes] where an image can have several
    predicted, loss         of the plain view: the likeliest class, like the labels, and -log of the true class's probability
    tta_predicted, tta_loss of all test-time views mixed, where there are more than one
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


class Answers(NamedTuple):
    """What a network says of n examples with labels.

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


class Examples(NamedTuple):
    """The answers to the examples of a split.

    Attributes:
        names: digest of the examples' names, in their order.
        labels: the true classes, like `Answers.predicted`.
        plain: answers from the plain view.
        tta: answers from all views mixed; None where there was one view.
    """

    names: str
    labels: np.ndarray
    plain: Answers
    tta: Answers | None

    def right(self, tta: bool = False) -> np.ndarray:
        """Whether each answer is right, bool [n]; for multi-label data whether all its classes are. `tta` falls back on the plain view."""
        answers = self.tta if tta and self.tta else self.plain
        equal = answers.predicted == self.labels
        return equal if equal.ndim == 1 else equal.all(axis=1)


def path_of(folder: str | Path, split: str, network: str = "") -> Path:
    """Where a run folder keeps the answers of a split; `network` is the name of another than the final one.

    >>> path_of("run", "test", "ensemble, chosen").name
    'examples-test-ensemble-chosen.npz'
    """
    return Path(folder) / ("-".join(["examples", split, *re.findall(r"\w+", network)]) + ".npz")


def save(folder: str | Path, split: str, names: Sequence[str], labels: np.ndarray, answers: Sequence[Answers], network: str = "") -> Path:
    """Keeps the answers of a split; the file is replaced as a whole.

    Args:
        folder: the run folder.
        split: name of the split.
        names: of the n examples.
        labels: int [n] or zeros and ones [n, classes].
        answers: from the plain view and, where there are more views, from all of them mixed.
        network: name of another than the final one.
    """
    digest = hashlib.sha256(b"\0".join(map(os.fsencode, names))).digest()
    arrays = {"names": np.frombuffer(digest, np.uint8), "labels": _small(labels)}
    for prefix, each in zip(("", "tta_"), answers, strict=False):
        arrays |= {f"{prefix}predicted": _small(each.predicted), f"{prefix}loss": each.loss.astype(np.float32)}
    path = path_of(folder, split, network)
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
    return path


def load(folder: str | Path, split: str, network: str = "") -> Examples | None:
    """What `save` kept; None where there is no such file. Raises InputError for a damaged one."""
    path = path_of(folder, split, network)
    if not path.exists():
        return None
    try:
        # Opened here, since a damaged archive leaves a file that NumPy has opened open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        plain, tta = (
            Answers(arrays[f"{prefix}predicted"], arrays[f"{prefix}loss"]) if f"{prefix}loss" in arrays else None for prefix in ("", "tta_")
        )
        assert plain is not None
        return Examples(arrays["names"].tobytes().hex(), arrays["labels"], plain, tta)
    except (AssertionError, KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error or 'incomplete'}); run its experiment again") from error


def _small(classes: np.ndarray) -> np.ndarray:
    """The same classes in the smallest unsigned type."""
    return classes.astype(np.min_scalar_type(int(classes.max(initial=0))))
