"""`sgdr-jax compare`: what a sweep has found, printed, drawn and written."""

from __future__ import annotations

from typing import Any

from ...core.console import NullConsole
from ...core.validation import require
from ...sweeps.analysis import render
from ...sweeps.analysis.compare import compare as read
from ..options import CompareCommand


def compare(command: CompareCommand, ui: NullConsole) -> None:
    """Compares the arms of a sweep; refuses what it could not write before it reads anything."""
    c = command
    if c.results is not None:
        ok = c.results.parent.is_dir() and not c.results.is_dir()
        require(ok, "--results", str(c.results), "name a file in a folder that exists")
    require(c.out is None or c.out.is_dir() or not c.out.exists(), "--out", str(c.out), "it is a file; name a folder, there or not")
    how: dict[str, Any] = {name: getattr(c, name) for name in ("baseline", "split", "measure", "tta", "alpha", "networks")}
    found = read(c.sweep, **how)
    made = render.publish(found, c.out or c.sweep / "answer", c.results)
    for part in render.terminal(found):
        ui.say(part)
    ui.say(f"page, tables, pictures: {made[0].parent}" + (f"; section of {c.results}" if c.results else ""))
