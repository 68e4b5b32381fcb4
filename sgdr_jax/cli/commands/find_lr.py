"""`sgdr-jax find-lr`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...core.console import NullConsole
from ...core.errors import InputError
from ..options import ExperimentCommand, check_picture


@dataclass(frozen=True, kw_only=True)
class FindLrCommand(ExperimentCommand):
    """Run the learning-rate finder for one stage, on the initial network; print and draw the curve."""

    section = "Experiments"

    stage: int = 0
    """Index of the stage."""
    rule: Literal["combined", "valley", "steep", "minimum", "slide"] | None = None
    """Rule that reads the rate off the curve; by default that of the stage."""
    each: bool = False
    """Whether to draw a curve for each trained layer group too, with the other groups at rate 0, to OUT-GROUP.png."""
    out: Path = Path("find-lr.png")
    """File for the picture."""

    def execute(self, ui: NullConsole) -> None:
        """Run the finder, print its table and draw its curves."""
        from ...core.learning_rates import Find
        from ...report.run_plots import plot_lr_finder
        from ...report.run_tables import finder_table
        from ...train.context import prepare
        from ...train.find_lr import find_lr
        from ...train.stage import open_stage

        stages = self.experiment.stages
        check_picture(self.out)
        if not 0 <= self.stage < len(stages):
            raise InputError(f"--stage is {self.stage}; the stages are {', '.join(f'{i} ({s.name})' for i, s in enumerate(stages))}")
        context = prepare(self.experiment, ui)
        planned = context.plan.stages[self.stage]
        name, lr = planned.stage.name, planned.stage.lr
        find = lr if isinstance(lr, Find) else Find()
        if not isinstance(lr, Find):
            ui.say(f"{name} has given rates, {lr}: train uses those; this is what Find() would choose")
        if self.rule:
            find = dataclasses.replace(find, rule=self.rule)
        stage = open_stage(context, planned, context.network, ui)
        groups = planned.trained if self.each and len(planned.trained) > 1 else ()
        curves = {group: find_lr(context, planned, stage, find, ui, group) for group in ("", *groups)}
        ui.say(finder_table(curves, planned.trained))
        for group, curve in curves.items():
            ui.say(f"{group or 'all'}: {curve.verdict}; {curve.confidence:.0%} of {curve.orders} orders agree within a factor of 3")
            title = f"{name}, {group}" if group else name
            out = self.out.with_stem(f"{self.out.stem}-{group}") if group else self.out
            ui.say(f"picture: {plot_lr_finder(dataclasses.asdict(curve) | {'stage': title}, out)}")
