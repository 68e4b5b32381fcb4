"""Charts: where values lie, what stays of long lines, and what the page of a run draws."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.evaluation.intervals import Interval, share_interval
from sgdr_jax.evaluation.metrics import EvalMetrics
from sgdr_jax.report.charts import MOST_POINTS, Chart, ChartAxis, Series, covering, thinned
from sgdr_jax.report.run_charts import finder_chart, progress_charts, reliability_chart, views_chart

from .test_run_plots import example


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5000), st.integers(1, 50))
def test_thinned_lines_keep_ends_and_extremes(values: list[float], most: int) -> None:
    points = list(enumerate(values))
    kept = thinned(points, most)
    assert set(kept) <= set(points) and kept == sorted(kept) and len(kept) <= max(4 * most, 2 * most)
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert min(y for _, y in kept) == min(values) and max(y for _, y in kept) == max(values)


@settings(deadline=None)  # the first call imports matplotlib
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_lie_on_the_axis(low: float, length: float) -> None:
    ticks = ChartAxis("x", low, low + length).ticks()
    assert 2 <= len(ticks) <= 7 and all(-1e-6 <= at <= 1 + 1e-6 for at, _ in ticks)
    assert [at for at, _ in ticks] == sorted(at for at, _ in ticks) and len({text for _, text in ticks}) == len(ticks)


def test_logarithmic_ticks_are_decades() -> None:
    assert [text for _, text in ChartAxis("lr", 1e-5, 1, log=True).ticks()] == ["10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1"]


def test_paths_go_up_for_more_and_stop_at_gaps() -> None:
    line = Series("train", [(0, 0), (1, 10), (2, math.nan), (3, 5)], marked=True)
    chart = Chart("", ChartAxis("x", 0, 4), ChartAxis("y", 0, 10), [line])
    assert chart.path(line) == "M0 1000L250 0M750 500" and chart.dots(line) == "M0 1000h0M250 0h0M750 500h0"


@given(st.lists(st.sampled_from([math.nan, 1.0, 2.0]), max_size=9))
def test_every_value_is_on_a_line_or_a_dot(values: list[float]) -> None:
    """The one update of a solved head was a path without length, which nobody sees."""
    line = Series("train", list(enumerate(values)))
    chart = Chart("", ChartAxis("x", 0, 10), ChartAxis("y", 0, 10), [line])
    finite = [i for i, y in enumerate(values) if math.isfinite(y)]
    joined = [i for i in finite if {i - 1, i + 1} & set(finite)]
    assert chart.dots(line) == "".join(f"M{100 * i} {1000 - 100 * values[i]:g}h0" for i in finite if i not in joined)


@pytest.mark.parametrize("marked", [False, True])
def test_a_value_between_two_that_a_logarithmic_axis_has_not_is_a_dot(marked: bool) -> None:
    line = Series("train", [(0, 0.0), (1, 1.0), (2, 0.0)], marked=marked)
    assert Chart("", ChartAxis("x", 0, 10), ChartAxis("y", 0.1, 10, log=True), [line]).dots(line) == "M100 500h0"


def test_stages_of_one_update_are_drawn() -> None:
    rows = [{"kind": "train", "stage": "s", "step": 0, "epoch": 0.0, "loss": 0.4, "lr": {"head": 0.1}}]
    loss, rate = progress_charts(rows)
    for chart in (loss, rate):
        assert all(chart.dots(series) for series in chart.series if series.points)


def test_an_axis_covers_constant_and_missing_values() -> None:
    for values in ([3.0, 3.0], [], [math.nan], [0.0]):
        axis = covering("y", values)
        assert axis.low < axis.high and math.isfinite(axis.low)


def test_the_charts_of_a_run() -> None:
    loss, accuracy, rate = progress_charts(example())
    assert [band.name for band in loss.bands] == ["head", "all"] and loss.bands[1].start == 2
    assert [(s.style, s.points) for s in accuracy.series] == [("valid", [(1, 0.59), (2, 0.69)]), ("valid", [(5, 0.9)])]
    assert [label for _, label in loss.legend()] == ["training", "validation"]
    assert [label for _, label in rate.legend()] == ["early", "head", "restart"]  # late is 0 throughout
    assert [at for at, _, _ in rate.rules] == [10]
    assert progress_charts([]) == []


def test_long_runs_have_short_paths() -> None:
    rows = [
        {"kind": "train", "stage": "s", "step": i, "epoch": i / 100, "loss": 1 + math.sin(i), "lr": {"head": 0.1}} for i in range(50_000)
    ]
    for chart in progress_charts(rows):
        for series in chart.series:
            assert len(re.findall("[ML]", chart.path(series))) <= 4 * MOST_POINTS


def test_the_finder_s_choice_is_drawn() -> None:
    curve = {"lrs": [1e-4, 1e-3, 1e-2], "losses": [2, 1, None], "smoothed": [2, 1.5, None], "chosen": 1e-3, "rule": "valley"}
    chart = finder_chart(curve | {"verdict": "clear", "suggestions": {"steep": 2e-3, "far": 100.0}, "stage": "<all>"})
    assert chart.title == "<all>: 0.001 by the rule valley; clear"
    assert [at for at, style, _ in chart.rules if style == "chosen"] == [1e-3] and len(chart.rules) == 2  # one is beyond the axis


@pytest.mark.parametrize("count", [1, 2])
def test_reliability_leaves_empty_bins_out(count: int) -> None:
    diagram = np.array([[2, 0, 1], [0.2, np.nan, 0.9], [0.5, np.nan, 1.0]])
    chart = reliability_chart(np.stack([diagram] * count))
    assert len(chart.series) == 1 + count and chart.series[1].points == [(0.2, 0.5), (0.9, 1.0)]


def test_views_have_their_intervals() -> None:
    by_count: list[EvalMetrics] = [{"accuracy": 0.5}, {"accuracy": 0.6}]
    chart = views_chart(by_count, [Interval(0.4, 0.6), Interval(0.5, 0.7)])
    assert [s.points for s in chart.series] == [[(1, 0.4), (2, 0.5)], [(1, 0.6), (2, 0.7)], [(1, 0.5), (2, 0.6)]]
    assert chart.series[1].label == "95 % interval"


def test_no_axis_of_accuracies_goes_beyond_all_and_none() -> None:
    rows = [row | {"accuracy": 1.0} if "accuracy" in row else row for row in example()]
    _, accuracy, _ = progress_charts(rows)
    perfect, hopeless = (views_chart([EvalMetrics(accuracy=value)] * 2, [share_interval(value, 16)] * 2) for value in (1.0, 0.0))
    assert accuracy.y.high == perfect.y.high == 1 and hopeless.y.low == 0
    assert {round(y, 3) for chart in (perfect, hopeless) for series in chart.series for _, y in series.points} == {0, 0.194, 0.806, 1}
