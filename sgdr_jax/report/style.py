"""The one look of all pictures: colours, axes, how a figure is saved. matplotlib only when a picture is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008: eight colours that stay apart for the colour-blind; the yellow is left out, it is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
TEXT = "#444444"


def figure(width: float, height: float, dpi: int = 150) -> Figure:
    """An empty figure that belongs to no window and no global list; inches, and pixels per inch."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def quiet(axes: Axes, grid: str = "y") -> Axes:
    """Axes without what distracts: two spines, faint grid lines across `grid` ("x", "y" or "both"), small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    axes.tick_params(color=GREY, labelsize=9)
    return axes


def save(drawn: Figure, path: str | Path) -> Path:
    """Writes a figure; the same picture is the same bytes, whatever drew it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, metadata={"Software": None} if str(path).endswith(".png") else None)
    return Path(path)
