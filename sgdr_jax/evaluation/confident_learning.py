"""Labels that are probably wrong, by confident learning from out-of-sample probabilities.

Source: Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels". An image counts as confidently of
the class whose probability reaches that class's threshold, the mean probability of the class on the images that are labelled with it, and
is the highest of those that do. Images that are confidently of another class than their label (the off-diagonal entries of the confident
joint) are suspects, ordered by the margin, unless their label is the likeliest class all the same (as in the authors' cleanlab). For
multi-label data each class is a problem of its own, with the classes "shown" and "not shown" (Thyagarajan et al. 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Suspect(NamedTuple):
    """An image whose label is probably wrong.

    Attributes:
        index: its position.
        suggested: the confident class; for multi-label data the label with the suspicious decisions changed, as class indices.
        margin: probability of the label minus that of the suggestion, -1…1, the lower the more suspicious; for multi-label data of the most
            suspicious class.
    """

    index: int
    suggested: tuple[int, ...]
    margin: float


def thresholds(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    """Compute the mean probability of each class on the images with that label; infinity for classes without any.

    >>> thresholds(np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]), np.array([0, 0, 1]))
    array([0.7, 0.5])
    """
    k = probabilities.shape[1]
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    count = np.bincount(labels, minlength=k)
    return np.where(count > 0, np.bincount(labels, own, k) / np.maximum(count, 1), np.inf)


def confident_classes(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the class that each image is confidently of: the likeliest of those that reach their threshold; -1 for none.

    >>> confident_classes(np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]), np.array([0, 0, 1]))
    array([ 0, -1,  1])
    """
    # A threshold is a mean: rounding must not lift it above equal values.
    reached = np.where(probabilities >= thresholds(probabilities, labels) - 1e-12, probabilities, -1)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)


def find_suspects(probabilities: Float[np.ndarray, "n k"], labels: np.ndarray) -> list[Suspect]:
    """Return the suspects, the most suspicious first.

    Args:
        probabilities: out-of-sample, of images that the network was not trained on, [n, k].
        labels: int [n], or [n, k] of zeros and ones for multi-label data.
    """
    p = np.asarray(probabilities, np.float64)
    if labels.ndim == 2:
        return _multi_label_suspects(p, labels > 0.5)
    labels = labels.astype(np.int64)
    confident = confident_classes(p, labels)
    where = np.flatnonzero(_suspicious(p, labels, confident))
    margin = p[where, labels[where]] - p[where, confident[where]]
    order = np.argsort(margin, kind="stable").tolist()
    return [Suspect(int(where[i]), (int(confident[where[i]]),), float(margin[i])) for i in order]


def _suspicious(p: np.ndarray, labels: np.ndarray, confident: np.ndarray) -> np.ndarray:
    return (confident >= 0) & (confident != labels) & (p.argmax(axis=1) != labels)


def _multi_label_suspects(p: np.ndarray, shown: np.ndarray) -> list[Suspect]:
    wrong, margins = np.zeros(shown.shape, bool), np.zeros(shown.shape)
    for c in range(p.shape[1]):
        two, label = np.stack([1 - p[:, c], p[:, c]], axis=1), shown[:, c].astype(np.int64)
        wrong[:, c] = _suspicious(two, label, confident_classes(two, label))
        margins[:, c] = np.where(label == 1, 1, -1) * (2 * p[:, c] - 1)
    lowest = np.where(wrong, margins, np.inf).min(axis=1, initial=np.inf)
    order = [int(i) for i in np.argsort(lowest, kind="stable") if wrong[i].any()]
    return [Suspect(i, tuple(np.flatnonzero(shown[i] ^ wrong[i]).tolist()), float(lowest[i])) for i in order]
