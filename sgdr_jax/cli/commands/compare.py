"""`sgdr-jax compare`: what a sweep has found, printed, drawn and written."""

from __future__ import annotations

from ...core.console import NullConsole
from ...core.validation import require
from ...sweeps.analysis import render
from ...sweeps.analysis.compare import compare_arms
from ..options import CompareCommand


def compare(command: CompareCommand, ui: NullConsole) -> None:
    """Compare the arms of a sweep; reject outputs that cannot be written before anything is read."""
    c = command
    if c.results is not None:
        ok = c.results.parent.is_dir() and not c.results.is_dir()
        require(ok, "--results", str(c.results), "name a file in a folder that exists")
    require(c.out is None or c.out.is_dir() or not c.out.exists(), "--out", str(c.out), "it is a file; name a folder, there or not")
    comparison = compare_arms(c.sweep, baseline=c.baseline, split=c.split, measure=c.measure, tta=c.tta, alpha=c.alpha, networks=c.networks)
    written = render.publish(comparison, c.out or c.sweep / "answer", c.results)
    for part in render.terminal(comparison):
        ui.say(part)
    ui.say(f"page, tables, pictures: {written[0].parent}" + (f"; section of {c.results}" if c.results else ""))
