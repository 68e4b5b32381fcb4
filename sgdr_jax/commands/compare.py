"""`sgdr-jax compare`: what a sweep has found, printed, drawn and written."""

from __future__ import annotations

from typing import Any

from .. import answers, sweep
from ..compare import compare as read
from ..config import require
from ..lineage import lineage
from ..options import CompareCommand
from ..progress import Quiet
from ..tables import lineage_table


def compare(command: CompareCommand, ui: Quiet) -> None:
    """Compares the arms of a sweep; refuses what it could not write before it reads anything."""
    c = command
    if c.results is not None:
        ok = c.results.parent.is_dir() and not c.results.is_dir()
        require(ok, "--results", str(c.results), "name a file in a folder that exists")
    require(c.out is None or c.out.is_dir() or not c.out.exists(), "--out", str(c.out), "it is a file; name a folder, there or not")
    if "population" in sweep.read(c.sweep):
        require(c.results is None, "--results", str(c.results), "a population has no arms to compare: leave it out, for its lineage alone")
        kin = lineage(c.sweep)
        ui.say(lineage_table(kin))
        ended = sum(bool(member.summary) for member in kin)
        said = "Of them the first, best on the validation images, is the result."
        if ended < len(kin):
            said = f"{ended} of {len(kin)} have finished; the command of the sweep goes on with the others, and tells the result."
        ui.say(f"No arms are compared: the members copied one another. {said}")
        return
    how: dict[str, Any] = {name: getattr(c, name) for name in ("baseline", "split", "measure", "tta", "alpha", "networks")}
    found = read(c.sweep, **how)
    made = answers.publish(found, c.out or c.sweep / "answer", c.results)
    for part in answers.terminal(found):
        ui.say(part)
    ui.say(f"page, tables, pictures: {made[0].parent}" + (f"; section of {c.results}" if c.results else ""))
