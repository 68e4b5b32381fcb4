"""Pictures: items are those that the run has predicted, or none; maps are drawn where they are bright."""

from pathlib import Path

import numpy as np

from sgdr_jax.core.types import Source
from sgdr_jax.report.pictures import overlay, predicted_positions
from sgdr_jax.report.run_page import read_run_page

from .run_folders import write_run


def source(*names: str) -> Source:
    labels = np.zeros(len(names), np.int32)
    return Source(("a", "b"), {"test": labels}, {"test": names}, {"test": names}, {"test": names}, "")


def test_positions_leave_out_what_could_not_be_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", n=3)
    (folder / "rejected.tsv").write_text("test/x\tdamaged\n")
    view = read_run_page(folder)
    assert predicted_positions(source("test/0", "test/x", "test/1", "test/2"), view) == [0, 2, 3]
    assert predicted_positions(source("test/0", "test/1", "test/2"), view) == [0, 1, 2]
    assert predicted_positions(source("test/0", "test/2", "test/1"), view) is None  # another order
    assert predicted_positions(source("test/0", "test/1"), view) is None
    assert predicted_positions(source()._replace(names={}), view) is None


def test_maps_are_brighter_where_they_are_high() -> None:
    image = np.full((4, 4, 1), 100, np.uint8)
    drawn = overlay(image, np.linspace(0, 1, 16).reshape(4, 4))
    assert drawn.shape == (4, 4, 3) and drawn.dtype == np.uint8
    brightness = drawn.astype(int).sum(-1).ravel()
    assert (np.diff(brightness) > 0).all()
