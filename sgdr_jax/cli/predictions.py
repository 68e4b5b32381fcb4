"""What `eval` and `predict` share: options that choose the network of a run, tables of predictions as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.text import csv_text
from .experiment_file import load_parts
from .options import Command

if TYPE_CHECKING:
    from ..runs.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class NetworkCommand(Command):
    """Base class of the commands that use a network of a finished run."""

    section = "Finished runs"

    run: Path
    """The run folder."""
    network: str = ""
    """Name in RUN/snapshots of a network saved at a cycle's end or of an average of weights; by default the final network."""
    experiment: Path | None = None
    """Experiment file of the run; needed only if it defines its own model, dataset or the like."""

    def open_predictor(self) -> Predictor:
        """Open the network. Raises InputError for a folder or a name without one."""
        from ..runs.predictor import open_predictor

        return open_predictor(self.run, self.network, load_parts(self.experiment))


@dataclass(frozen=True, kw_only=True)
class PredictorCommand(NetworkCommand):
    """Base class of the commands that predict with a network of a finished run."""

    tta_views: int | None = None
    """Number of augmented views beside the plain one; by default that of the experiment, 0 for none."""


def predictions_csv(
    first: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    probabilities: np.ndarray,
    disagreement: np.ndarray | None,
    classes: Sequence[str],
) -> str:
    """Return a table of predictions as CSV.

    Args:
        first: its first columns, name to n cells.
        labels: predicted ones.
        probabilities: [n, classes].
        disagreement: of the views of each image, [n]; None, and no column, for a single view.
        classes: names of the last columns.
    """
    columns = [*first, "label", "probability", *["disagreement"] * (disagreement is not None)]
    shares = [()] * len(labels) if disagreement is None else [(f"{share:.3f}",) for share in disagreement]
    cells = zip(zip(*first.values(), strict=True), labels, probabilities, shares, strict=True)
    rows = [[*before, label, f"{row.max():.4f}", *share, *(f"{p:.6f}" for p in row)] for before, label, row, share in cells]
    return csv_text([header(columns, classes), *rows])


def header(columns: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the header of a table of predictions: its columns, then the classes. A class that bears a column's name is "class NAME".

    >>> header(["path", "label"], ["label", "class label"])
    ['path', 'label', 'class class label', 'class label']
    """
    taken, names = {*columns, *classes}, list(columns)
    for name in classes:
        shown = name
        while name in columns and shown in taken:
            shown = f"class {shown}"
        taken.add(shown)
        names.append(shown)
    return names
