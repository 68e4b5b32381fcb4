"""`sgdr-jax report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ...core.console import NullConsole
from ..experiment_file import load_parts
from ..options import Command, check_output


@dataclass(frozen=True, kw_only=True)
class ReportCommand(Command):
    """Make one HTML page of a run, finished or not: figures, curves, mistakes with their images, classes, calibration, data, origin."""

    section = "Finished runs"
    arguments = "DIR"

    run: tyro.conf.Positional[Path]
    """The run folder."""
    split: Literal["valid", "test"] | None = None
    """Split whose mistakes are shown; by default test where the data have it."""
    maps: int = 0
    """Number of images, those with the highest losses, to map where the network looks (Grad-CAM); loads the network. After a refit
    only test images have maps."""
    out: Path | None = None
    """The page; by default report.html in the run folder."""
    open: bool = False
    """Whether to open the page in the browser."""
    experiment: Path | None = None
    """Experiment file of the run; needed only if it defines its own model, dataset or the like."""

    def execute(self, ui: NullConsole) -> None:
        """Write the page, and open it if that is asked for."""
        from ...report.write_page import write_page

        check_output(self.out, "--out")
        parts = load_parts(self.experiment)
        page = write_page(self.run, ui, split=self.split, maps=self.maps, out=self.out, parts=parts)
        if self.open:
            import webbrowser

            webbrowser.open(page.resolve().as_uri())
