"""`sgdr-jax predict`."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from ...core.console import NullConsole, write_text
from ...core.errors import InputError
from ...core.files import write_output
from ...core.text import one_line
from ...core.validation import require
from ..options import check_output
from ..predictions import PredictorCommand, predictions_csv


@dataclass(frozen=True, kw_only=True)
class PredictCommand(PredictorCommand):
    """Predict the classes of image files with a finished run, as CSV: path, label, probability, then one column per class.

    Several labels are separated by spaces, and quoted if they have spaces themselves. With test-time views a column `disagreement` follows
    the probability: the share of the views whose class is not that of their mixture. `eval` says the same of an image: random views are
    drawn by its pixels.
    """

    arguments = "PATHS --run DIR"

    paths: tyro.conf.Positional[tuple[str, ...]]
    """Image files, or folders of them."""
    out: Path | None = None
    """File for the CSV; by default the terminal."""
    calibrated: bool = False
    """Whether to scale the probabilities by the temperature that the run fitted to its validation images."""

    def execute(self, ui: NullConsole) -> None:
        """Predict the images and write the table."""
        from ...data.gather import expand
        from ...datasets.files import formats_of
        from ...runs.predictor import predict

        check_output(self.out)
        require(bool(self.paths), "paths", "", "name image files, or folders of them")
        predictor = self.open_predictor()
        formats = formats_of(predictor.experiment.data)
        paths = expand(self.paths, _note, formats)
        result = predict(predictor, paths, self.tta_views, ui if self.out else None, calibrated=self.calibrated)
        for path, reason in result.bad:
            _note(f"left out {path}: {reason}")
        if not result.paths:
            raise InputError(f"none of the {len(paths)} files could be read as an image")
        shares = result.disagreement if result.views > 1 else None
        text = predictions_csv({"path": result.paths}, result.labels, result.probabilities, shares, predictor.classes)
        if self.out:
            write_output(self.out, text)
        else:
            if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():  # the bytes of --out
                sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
            write_text(sys.stdout, text)


def _note(text: str) -> None:
    """Print a line beside the table."""
    write_text(sys.stderr, f"{one_line(text)}\n")
