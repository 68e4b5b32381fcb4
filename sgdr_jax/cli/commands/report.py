"""`sgdr-jax report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro

from ...core.console import NullConsole
from ...core.errors import InputError
from ...core.types import Dataset
from ...core.validation import require
from ..experiment_file import load_experiment
from ..options import Command, check_output, write_output

if TYPE_CHECKING:
    from ...core.types import Source
    from ...report.run_page import Map, RunPage

_MOST_MAPS = 64


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
    data: tyro.conf.Suppress[Dataset | None] = None
    """Data of the run, where a session has them in memory."""

    def execute(self, ui: NullConsole) -> None:
        """Read the run folder and the images to show, and write the page."""
        from ...data.thumbnails import thumbnails
        from ...report.pictures import predicted_positions
        from ...report.run_page import read_run_page, run_html

        require(0 <= self.maps <= _MOST_MAPS, "--maps", self.maps, f"use 0…{_MOST_MAPS} images")
        check_output(self.out, "--out")
        view = read_run_page(self.run, self.split)
        fix = "after a refit the network has trained on the validation images; use --split test where the run has it, or leave it out"
        require(not (self.maps and view.before_refit), "--maps", self.maps, fix)
        top = view.top_losses()
        require(not self.maps or bool(top), "--maps", self.maps, "the run has kept no predictions; finish it, or leave it out")
        pictures, maps, note = {}, [], ""
        if top:
            source, note = self._source(view)
            positions = predicted_positions(source, view) if source else None
            if source and positions is not None:
                view = view._replace(names=source.classes)  # which early versions did not keep
                top = view.top_losses()
                shown = [image.index for image in (*top, *view.least_confident())]
                jpegs = thumbnails(source.items[view.split], [positions[i] for i in shown], resize=view.run.config.get("resize", "crop"))
                pictures = {i: jpegs[positions[i]] for i in shown if positions[i] in jpegs}
                if self.maps:
                    maps = self._maps(view, source, positions)
            elif source:
                note = "The data have changed since the run, so images are shown by their numbers."
        out = self.out or self.run / "report.html"
        write_output(out, run_html(view, pictures, maps, note))
        if note:
            ui.say(note)
        ui.say(f"page: {out}")
        if self.open:
            import webbrowser

            webbrowser.open(out.resolve().as_uri())

    def _source(self, view: RunPage) -> tuple[Source | None, str]:
        """Open the data of the run; return them, or None and the reason why they cannot be opened."""
        from ... import augment, datasets, models, schedules  # noqa: F401  # from_json finds types that are imported
        from ...core.serialization import from_json

        if self.experiment:
            load_experiment(self.experiment)  # for the classes that it defines
        try:
            return (self.data or from_json(view.run.config).data).open(), ""
        except InputError as error:
            return None, f"Images are shown by their numbers, since the data cannot be opened: {error}"

    def _maps(self, view: RunPage, source: Source, positions: Sequence[int]) -> list[Map]:
        """Map the images with the highest losses, for the predicted class and for the true one."""
        from ...data import decode
        from ...data.thumbnails import SIDE, jpeg
        from ...report.pictures import overlay
        from ...report.run_page import Map
        from ...runs.predictor import class_maps, open_predictor

        net, items, number = open_predictor(self.run), source.items[view.split], {name: i for i, name in enumerate(view.names)}
        decode.ready()
        how, asked = net.experiment.resize, []
        for shown in view.top_losses()[: self.maps]:
            pixels = decode.attempt(lambda: items[positions[shown.index]], net.canvas, net.channels, how)  # noqa: B023  # called at once
            if not isinstance(pixels, str):
                asked += [(shown.index, pixels, name) for name in dict.fromkeys((*shown.predicted[:1], *shown.true[:1]))]
        if not asked:
            return []
        heat = class_maps(net, np.stack([pixels for _, pixels, _ in asked]), np.array([number[name] for _, _, name in asked]))
        by_image: dict[int, list[tuple[str, bytes]]] = {}
        for (index, pixels, name), own in zip(asked, heat, strict=True):
            small, large = (decode.attempt(x, 2 * SIDE, 3) for x in (pixels, (255 * own[..., None]).astype(np.uint8)))
            assert isinstance(small, np.ndarray) and isinstance(large, np.ndarray)
            drawn = by_image.setdefault(index, [("image", jpeg(small))])
            drawn.append((f"for {name}", jpeg(overlay(small, large[..., 0] / 255))))
        return [Map(index, tuple(jpegs)) for index, jpegs in by_image.items()]
