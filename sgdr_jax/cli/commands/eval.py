"""`sgdr-jax eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ...core.console import NullConsole
from ..options import check_output
from ..predictions import PredictorCommand, csv_text, prediction


@dataclass(frozen=True, kw_only=True)
class EvalCommand(PredictorCommand):
    """Evaluate a finished run on one of its splits."""

    arguments = "DIR"

    run: tyro.conf.Positional[Path]
    """The run folder."""
    split: Literal["train", "valid", "test"] | None = None
    """Split to evaluate; by default valid or, after a refit, which trains on the validation images, test."""
    out: Path | None = None
    """File for the predictions, as CSV: name, true label, label, probability, disagreement of the views, then one column per class."""
    classes: Path | None = None
    """File for the results of each class, as CSV."""

    def execute(self, ui: NullConsole) -> None:
        """Evaluate the split; print the figures and write the tables."""
        from ...evaluation.calibration import ClassResult, class_results
        from ...evaluation.evaluate import calibration_results
        from ...report.run_tables import classes_table, views_table
        from ...runs.predictor import default_split, evaluate_split

        check_output(self.out)
        check_output(self.classes)
        predictor = self.open_predictor()
        split = self.split or default_split(predictor)
        result = evaluate_split(predictor, split, self.tta_views, ui)
        views = result.views
        for name, value in views.measures.items():
            ui.say(f"{split} {name:<14} {value:.4f}")
        if len(views.by_count) > 1:
            ui.say(views_table(split, views.by_count))
        classes = class_results(views.probabilities, result.labels)
        ui.say(classes_table(predictor.classes, classes))
        kinds = ("plain", "tta")[: 1 + (views.views > 1)]
        if all(kind in predictor.temperatures for kind in kinds):
            for kind, scaled in calibration_results(views, result.labels, predictor.temperatures).items():
                temperature, ece, loss = scaled["temperature"], scaled["ece"], scaled["loss"]
                ui.say(f"{split} {kind:<6} at the temperature {temperature:.3f}: ece {ece:.4f}, loss {loss:.4f}")
        if self.classes:
            names = [name for name in ClassResult._fields if name != "confused_with"]
            rows = [
                [name, *(f"{getattr(row, field):.6g}" for field in names)] for name, row in zip(predictor.classes, classes, strict=True)
            ]
            self.classes.write_text(csv_text(["class", *names], rows), "utf-8", "surrogateescape")
            ui.say(f"classes: {self.classes}")
        if self.out:
            true = [predictor.true_label(label) for label in result.labels]
            images = zip(result.names, true, views.probabilities, views.disagreement, strict=True)
            rows = [[name, label, *prediction(predictor, row, share)] for name, label, row, share in images]
            header = ["name", "true", "label", "probability", "disagreement", *predictor.classes]
            self.out.write_text(csv_text(header, rows), "utf-8", "surrogateescape")
            ui.say(f"predictions: {self.out}")
