"""Common style of all figures: colours, axes, saving. matplotlib is imported only when a figure is drawn."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.files import write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure

# Okabe & Ito 2008: colours distinguishable by the colour-blind, without the yellow, which is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
TEXT = "#444444"


def figure(width: float, height: float, dpi: int = 150) -> Figure:
    """Create an empty figure outside pyplot, which notebooks show all the same; width and height in inches, `dpi` in pixels per inch."""
    return _figure_type()(figsize=(width, height), dpi=dpi, layout="constrained")


@functools.cache
def _figure_type() -> type[Figure]:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class ShownFigure(Figure):
        """Figure that tells a notebook its picture, and draws names with dollar signs as they are."""

        def draw(self, renderer: RendererBase) -> None:
            for text in self.findobj(Text):
                assert isinstance(text, Text)
                text.set_parse_math(text.get_text().startswith("$\\mathdefault"))  # as the ticks of a logarithmic axis
            with _any_letter():
                super().draw(renderer)

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return ShownFigure


@contextlib.contextmanager
def _any_letter() -> Iterator[None]:
    """Draw a box for a letter that the font lacks, as in names with emoji, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def fitting(text: str, width: float, size: float) -> str:
    """Cut a text to a width in points at a font size; "…" stands for the rest."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    def measured(text: str) -> float:
        return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]

    with _any_letter():
        if not text or measured(text) <= width:
            return text
        return text[: bisect_right(range(len(text)), width, key=lambda n: measured(text[:n] + "…")) - 1] + "…"


def quiet(axes: Axes, grid: str = "y") -> Axes:
    """Reduce axes to two spines, faint grid lines across `grid` ("x", "y" or "both") and small labels; return them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    axes.tick_params(color=GREY, labelsize=9)
    return axes


def save(drawn: Figure, path: str | Path) -> Path:
    """Write a figure and return the path; equal figures give equal bytes, since no software version is embedded."""
    path, content = Path(path), io.BytesIO()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(content, format=path.suffix[1:], metadata={"Software": None} if path.suffix == ".png" else None)
    write_output(path, content.getvalue())
    return path
