"""`sgdr-jax compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ...core.console import NullConsole
from ...core.validation import require
from ...sweeps.options import CompareOptions
from ..options import Command, check_output


@dataclass(frozen=True, kw_only=True)
class CompareCommand(CompareOptions, Command):
    """Compare the arms of a sweep with its baseline, seed by seed. Intervals and tests go to tables, pictures and one HTML page."""

    section = "Sweeps"
    arguments = "DIR"

    sweep: tyro.conf.Positional[Path]
    """The sweep's folder."""
    networks: bool = False
    """Whether the arms are the networks that each run has saved (`--snapshots.last 4` of sweep): the final one, which is the baseline, the
    last, ensembles, averages of weights."""
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
        ours = self.results is None or self.results.is_file() or not self.results.exists()
        require(ours, "--results", str(self.results), "it is a device or a pipe; name a Markdown file, there or not")
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
