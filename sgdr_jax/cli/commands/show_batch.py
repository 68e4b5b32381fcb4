"""`sgdr-jax show-batch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole
from ..options import ExperimentCommand, check_picture


@dataclass(frozen=True, kw_only=True)
class ShowBatchCommand(ExperimentCommand):
    """Draw a few training images with their labels: plain, augmented as in a stage, and as test-time views."""

    section = "Experiments"

    stage: int | str = 0
    """Index or name of the stage."""
    count: int = 8
    """Number of images."""
    out: Path = Path("show-batch.png")
    """File for the picture."""

    def execute(self, ui: NullConsole) -> None:
        """Draw the images and list those that cannot be read."""
        from ...report import style
        from ...report.batch_preview import preview_batch
        from ...report.run_plots import draw_images

        check_picture(self.out)
        preview = preview_batch(self.experiment, self.stage, self.count)
        style.save(draw_images(preview.titles, preview.tiles, preview.captions), self.out)
        for name, reason in preview.bad:
            ui.say(f"left out, since it cannot be read: {name}: {reason}")
        ui.say(f"picture: {self.out}")
