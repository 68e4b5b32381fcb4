"""The page of a run written to a file, with the images that it shows and maps of where the network looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.console import NullConsole
from ..core.errors import InputError
from ..core.files import write_output
from ..core.json_files import read_json
from ..core.serialization import from_json
from ..core.validation import require, whole
from ..data import decode
from ..data.thumbnails import SIDE, jpeg, thumbnails
from ..runs.records import FinalFacts
from .pictures import overlay, predicted_positions
from .run_page import Map, RunPage, read_run_page, run_html

if TYPE_CHECKING:
    from ..core.types import Source
    from ..runs.predictor import Predictor

_MOST_MAPS = 64


def write_page(
    run: Path,
    ui: NullConsole,
    *,
    split: str | None = None,
    maps: int = 0,
    out: Path | None = None,
    net: Predictor | None = None,
    parts: Sequence[type] = (),
) -> Path:
    """Write the page of a run; return its file.

    Args:
        run: the run folder.
        ui: says where the page is, and why its images have numbers instead of pictures.
        split: whose mistakes are shown; None for test where the data have it.
        maps: number of images, 0…64, those with the highest losses, to map where the network looks, which loads it.
        out: the file; None for report.html in the run folder.
        net: the run's network, where it is open already, with its data, which may be in memory only.
        parts: the experiment's own classes, as of `open_predictor`.

    Raises:
        InputError: the folder holds no run, or has nothing to map.
    """
    require(whole(maps) and 0 <= maps <= _MOST_MAPS, "maps", maps, f"use 0…{_MOST_MAPS} images")
    view = read_run_page(run, split)
    fix = "after a refit the network has trained on the validation images; use the split test where the run has it, or leave it out"
    require(not (maps and view.before_refit), "maps", maps, fix)
    top = view.top_losses()
    require(not maps or bool(top), "maps", maps, "the run has kept no predictions; finish it, or leave it out")
    pictures, drawn, note = {}, [], ""
    if top:
        source, note = _source(view, net, parts)
        positions = predicted_positions(source, view) if source else None
        if source and positions is not None:
            view = view._replace(names=source.classes)  # which early versions did not keep
            top = view.top_losses()
            shown = [image.index for image in (*top, *view.least_confident())]
            jpegs = thumbnails(source.items[view.split], [positions[i] for i in shown], resize=view.run.config.get("resize", "crop"))
            pictures = {i: jpegs[positions[i]] for i in shown if positions[i] in jpegs}
            if maps:
                from ..runs.predictor import open_predictor

                drawn = _maps(net or open_predictor(run, parts=parts), view, source, positions, maps)
            if (recorded := _fingerprint(run)) and recorded != source.fingerprint:
                note = "Files of the data have changed since the run (their times count): pictures may be of other images than it has seen."
        elif source:
            note = "The data have changed since the run, so images are shown by their numbers."
    out = out or run / "report.html"
    write_output(out, run_html(view, pictures, drawn, note))
    if note:
        ui.say(note)
    ui.say(f"page: {out}")
    return out


def _source(view: RunPage, net: Predictor | None, parts: Sequence[type]) -> tuple[Source | None, str]:
    """Open the data of the run; return them, or None and the reason why they cannot be opened."""
    from .. import augment, datasets, models, schedules  # noqa: F401  # from_json finds types that are imported

    try:
        return (net.experiment if net else from_json(view.run.config, parts)).data.open(), ""
    except InputError as error:
        return None, f"Images are shown by their numbers, since the data cannot be opened: {error}"


def _fingerprint(run: Path) -> str:
    """Return the fingerprint of the data of a finished run; "" where none is recorded."""
    facts = read_json(run / "final" / "metadata.json", FinalFacts, "restore it, or run the experiment again", whole=False)
    return (facts or {}).get("metadata", {}).get("data", "")


def _maps(net: Predictor, view: RunPage, source: Source, positions: Sequence[int], count: int) -> list[Map]:
    """Map the images with the highest losses, for the predicted class and for the true one."""
    from ..runs.predictor import class_maps

    items, number = source.items[view.split], {name: i for i, name in enumerate(view.names)}
    decode.ready()
    how, asked = net.experiment.resize, []
    for shown in view.top_losses()[:count]:
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
