"""Charts of the HTML pages: geometry in shares of the plot, which templates/macros.html draws as SVG with the texts beside it in HTML.

Lines keep their width and texts their size however wide the page is, and both follow the colours of the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .run_curves import alone

MOST_POINTS = 600
"""Most columns of points of a line; of more the first, lowest, highest and last of each column are drawn."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class ChartAxis(NamedTuple):
    """An axis from `low` to `high`, logarithmic on request."""

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value on the axis, 0 at its low end and 1 at its high end.

        >>> ChartAxis("rate", 0.01, 100, log=True).place(1)
        0.5
        """
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low or 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Return places and texts of round values."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        locator = LogLocator(numticks=7) if self.log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        values = [float(v) for v in locator.tick_values(self.low, self.high) if not self.log or v > 0]
        inside = [(self.place(v), self._text(v)) for v in values if -1e-9 <= self.place(v) <= 1 + 1e-9]
        return inside[:: math.ceil(len(inside) / 7) or 1]

    def _text(self, value: float) -> str:
        if self.log and (value < 1e-2 or value >= 1e4):
            return f"10{str(round(math.log10(value))).translate(_SUPERSCRIPTS)}"
        return f"{round(value, 10):,.10g}".replace("-", "−")


class Series(NamedTuple):
    """A line of a chart.

    Attributes:
        style: class names of the line; see templates/page.css.
        points: (x, y); where y is not finite the line is interrupted.
        label: in the legend; "" for none.
        marked: draw the points themselves too; points without a neighbour are drawn in any case.
    """

    style: str
    points: Sequence[tuple[float, float]]
    label: str = ""
    marked: bool = False


class Band(NamedTuple):
    """A named interval of the horizontal axis, such as a stage."""

    name: str
    start: float
    end: float


class Chart(NamedTuple):
    """A chart.

    Attributes:
        title: what is drawn, also for those who do not see it.
        x, y: the axes.
        series: the lines, the first at the bottom.
        bands: named intervals, with lines between them.
        rules: (x, style, label) of vertical lines.
        square: whether width and height are equal.
    """

    title: str
    x: ChartAxis
    y: ChartAxis
    series: Sequence[Series]
    bands: Sequence[Band] = ()
    rules: Sequence[tuple[float, str, str]] = ()
    square: bool = False

    def path(self, series: Series) -> str:
        """Return the line as an SVG path in a field of 1000 × 1000, y downwards."""
        parts, drawing = [], False
        for x, y in thinned(series.points):
            if not self._drawn(y):
                drawing = False
                continue
            parts.append(f"{'L' if drawing else 'M'}{_coordinates(self, x, y)}")
            drawing = True
        return "".join(parts)

    def dots(self, series: Series) -> str:
        """Return the points, of a line that is not `marked` those that it does not show, as an SVG path of lines without length.

        Their round ends are dots.
        """
        points = series.points
        if not series.marked:
            line = thinned(points)
            points = [line[i] for i in alone([y if self._drawn(y) else math.nan for _, y in line])]
        shown = [(x, y) for x, y in points if self._drawn(y) and 0 <= self.y.place(y) <= 1.0001]
        return "".join(f"M{_coordinates(self, x, y)}h0" for x, y in shown)

    def _drawn(self, y: float) -> bool:
        return math.isfinite(y) and not (self.y.log and y <= 0)

    def legend(self) -> list[tuple[str, str]]:
        """Return styles and labels of the lines that have a label."""
        named = [(s.style, s.label) for s in self.series if s.label] + [(style, label) for _, style, label in self.rules if label]
        return list(dict.fromkeys(named))


def _coordinates(chart: Chart, x: float, y: float) -> str:
    return f"{1000 * chart.x.place(x):.5g} {1000 - 1000 * chart.y.place(y):.5g}"


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most `most` columns of points with the first, lowest, highest and last of each, so that no extreme is lost.

    >>> thinned([(i, float(i == 7)) for i in range(20)], most=2)
    [(0, 0.0), (7, 1.0), (9, 0.0), (10, 0.0), (19, 0.0)]
    """
    if len(points) <= 2 * most:
        return list(points)
    kept: list[tuple[float, float]] = []
    for part in np.array_split(np.arange(len(points)), most):
        finite = [i for i in part.tolist() if math.isfinite(points[i][1])]
        extremes = (min(finite, key=lambda i: points[i][1]), max(finite, key=lambda i: points[i][1])) if finite else ()
        kept += [points[i] for i in sorted({int(part[0]), *extremes, int(part[-1])})]
    return kept


def covering(label: str, values: Sequence[float], margin: float = 0.06, within: tuple[float, float] = (-math.inf, math.inf)) -> ChartAxis:
    """Return an axis over the finite values with a margin of this share on both sides, as far as it is within the bounds."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = margin * (high - low or abs(high) or 1)
    return ChartAxis(label, max(low - room, within[0]), min(high + room, within[1]))
