"""Tables of predictions as CSV, which `eval` and `predict` write."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..runs.predictor import Predictor


def prediction(predictor: Predictor, probabilities: np.ndarray, disagreement: float | None) -> list[str]:
    """Return the cells of an image: label, probability, disagreement of the views if there are several, probability of each class."""
    shares = [] if disagreement is None else [f"{disagreement:.3f}"]
    return [predictor.label(probabilities), f"{probabilities.max():.4f}", *shares, *(f"{p:.6f}" for p in probabilities)]


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV.

    Example:
        >>> csv_text(["a", "b"], [["1", "2"]])
        'a,b\\n1,2\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
