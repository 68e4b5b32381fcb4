"""`sgdr-jax compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ...core.console import NullConsole
from ...core.validation import require
from ..options import Command, check_output


@dataclass(frozen=True, kw_only=True)
class CompareCommand(Command):
    """Compare the arms of a sweep with its baseline, seed by seed. Intervals and tests go to tables, pictures and one HTML page."""

    section = "Sweeps"
    arguments = "DIR"

    sweep: tyro.conf.Positional[Path]
    """The sweep's folder."""
    split: Literal["test", "valid"] | None = None
    """Split to compare on; by default test where the runs have it."""
    measure: Literal["accuracy", "loss"] = "accuracy"
    """Measure whose differences are shown."""
    tta: bool = False
    """Whether to compare the final figures of each run, with all test-time views mixed, or with the plain view where it has no others."""
    networks: bool = False
    """Whether the arms are the networks that each run has saved (`--snapshots.last 4` of sweep): the final one, which is the baseline, the
    last, ensembles, averages of weights."""
    baseline: str | None = None
    """Arm that the others are compared with; by default the sweep's baseline."""
    alpha: float = 0.05
    """Level of the tests; the intervals hold the true difference with probability 1 - alpha."""
    until: float | None = None
    """Also say which arms need which further seeds until the interval of their difference is at most this to either side, in points of
    accuracy or units of the loss; `sweep --until` runs those."""
    out: Path | None = None
    """Folder for answer.html, answer.md, answer.csv and the pictures; by default the folder `answer` of the sweep."""
    results: Path | None = None
    """File in which to write the sweep's section too, such as experiments/RESULTS.md, with pictures beside it."""

    def execute(self, ui: NullConsole) -> None:
        """Check the outputs, compare the arms, print and write the answer."""
        from ...sweeps.analysis import render
        from ...sweeps.analysis.compare import compare_arms
        from ...sweeps.analysis.sequential import sequential_notes

        check_output(self.results, "--results")
        out = self.out
        require(out is None or out.is_dir() or not out.exists(), "--out", str(out), "it is a file; name a folder, there or not")
        comparison = compare_arms(
            self.sweep,
            baseline=self.baseline,
            split=self.split,
            measure=self.measure,
            tta=self.tta,
            alpha=self.alpha,
            networks=self.networks,
        )
        sequential = [] if self.until is None else sequential_notes(comparison, self.until)
        written = render.publish(comparison, out or self.sweep / "answer", self.results)
        for part in (*render.terminal(comparison), *sequential):
            ui.say(part)
        ui.say(f"page, tables, pictures: {written[0].parent}" + (f"; section of {self.results}" if self.results else ""))
