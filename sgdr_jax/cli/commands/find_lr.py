"""`sgdr-jax find-lr`."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ...core.console import NullConsole
from ...core.validation import require
from ..options import ExperimentCommand, check_picture


@dataclass(frozen=True, kw_only=True)
class FindLrCommand(ExperimentCommand):
    """Run the learning-rate finder for one stage, on the initial network; print and draw the curve."""

    section = "Experiments"

    stage: int | str | None = None
    """Index or name of the stage; by default the first whose head is not solved."""
    rule: Literal["combined", "valley", "steep", "minimum", "slide"] | None = None
    """Rule that reads the rate off the curve; by default that of the stage."""
    each: bool = False
    """Whether to draw a curve for each trained layer group too, with the other groups at rate 0, to OUT-GROUP.png."""
    out: Path | None = None
    """File for the picture, which must not exist; by default find-lr-STAGE.png, or find-lr-STAGE-2.png and so on."""

    def execute(self, ui: NullConsole) -> None:
        """Run the finder, print its table and draw its curves."""
        from ...report.run_plots import plot_lr_finder
        from ...report.run_tables import finder_table, finder_verdict
        from ...train.context import prepare
        from ...train.find_lr import stage_curves, stage_to_search

        stage = stage_to_search(self.experiment, self.stage)
        name = self.experiment.stages[stage].name
        out = self.out or _free(f"find-lr-{name.replace('/', '_')}")
        check_picture(out)
        require(not out.exists(), "--out", str(out), "it is there already; give another name")
        context = prepare(self.experiment, ui)
        planned = context.plan.stages[stage]
        curves = stage_curves(context, planned, context.network, ui, self.rule, each=self.each)
        ui.say(f'stage {stage}, "{name}":')
        ui.say(finder_table(curves, planned.trained))
        for group, curve in curves.items():
            ui.say(finder_verdict(group, curve))
            title = f"{name}, {group}" if group else name
            picture = out.with_stem(f"{out.stem}-{group}") if group else out
            ui.say(f"picture: {plot_lr_finder(asdict(curve) | {'stage': title}, picture)}")


def _free(stem: str) -> Path:
    """Return the first of STEM.png, STEM-2.png, … that does not exist."""
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(path for path in (Path(f"{name}.png") for name in names) if not path.exists())
