"""`sgdr-jax eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ...core.console import NullConsole
from ...core.files import write_output
from ...core.text import csv_text
from ...core.validation import require
from ..options import check_output
from ..predictions import PredictorCommand, predictions_csv


@dataclass(frozen=True, kw_only=True)
class EvalCommand(PredictorCommand):
    """Evaluate a finished run on one of its splits."""

    arguments = "DIR"

    run: tyro.conf.Positional[Path]
    """The run folder."""
    split: Literal["train", "valid", "test"] | None = None
    """Split to evaluate; by default valid or, after a refit, which trains on the validation images, test."""
    out: Path | None = None
    """File for the predictions, as CSV: name, true label, label, probability, disagreement of several views, then a column per class."""
    classes: Path | None = None
    """File for the results of each class, as CSV."""

    def execute(self, ui: NullConsole) -> None:
        """Evaluate the split; write the tables and print the figures."""
        from ...evaluation.calibration import ClassResult, class_results
        from ...report.run_tables import evaluation_parts
        from ...runs.predictor import default_split, evaluate_split

        check_output(self.out)
        check_output(self.classes)
        apart = not (self.out and self.classes) or self.out.resolve() != self.classes.resolve()
        require(apart, "--classes", str(self.classes), "it is the file of --out too; give each another name")
        predictor = self.open_predictor()
        split = self.split or default_split(predictor)
        result = evaluate_split(predictor, split, self.tta_views, ui)
        views = result.views
        if self.classes:
            classes = class_results(views.probabilities, result.labels, predictor.threshold(views.views))
            names = [name for name in ClassResult._fields if name != "confused_with"]
            rows = [
                [name, *(f"{getattr(row, field):.6g}" for field in names)] for name, row in zip(predictor.classes, classes, strict=True)
            ]
            write_output(self.classes, csv_text([["class", *names], *rows]))
        if self.out:
            true = [predictor.true_label(label) for label in result.labels]
            labels = [predictor.label(row, views.views) for row in views.probabilities]
            shares = views.disagreement if views.views > 1 else None
            first = {"name": result.names, "true": true}
            write_output(self.out, predictions_csv(first, labels, views.probabilities, shares, predictor.classes))
        for part in evaluation_parts(split, result, predictor):
            ui.say(part)
        for what, file in (("classes", self.classes), ("predictions", self.out)):
            if file:
                ui.say(f"{what}: {file}")
