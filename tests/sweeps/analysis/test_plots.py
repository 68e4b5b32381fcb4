"""Pictures of a comparison show every seed and keep their order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdr_jax.sweeps import Sweep, grid
from sgdr_jax.sweeps.analysis import plots
from sgdr_jax.sweeps.analysis.compare import Comparison, compare_arms

from ...helpers import experiment
from ..results import fill
from .three_arms import of


def test_pictures_show_every_seed(found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    real = plots.style.save
    monkeypatch.setattr(plots.style, "save", lambda figure, path: figures.append(figure) or real(figure, path))
    plots.plot_arms(found, tmp_path / "arms.png")
    left, right = figures[0].axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["recipe", "without", "same"]
    drawn = [np.sort(points.get_offsets()[:, 0]) for points in left.collections]
    for points, arm in zip(drawn, found.arms, strict=True):
        np.testing.assert_allclose(points, np.sort([100 * run.summary["test"]["accuracy"] for run in arm.runs]))
    words = [text.get_text().strip() for text in right.texts]
    assert words[0] == "baseline" and words[1] == f"{100 * of(found, 'without').paired.mean:+.2f}  worse"


@pytest.mark.parametrize("measure", ["accuracy", "loss"])
def test_the_line_of_the_best_joins_what_nothing_beats(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Any) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots.style, "save", lambda figure, path: figures.append(figure) or path)
    found = compare_arms(folder, measure=measure)
    plots.plot_time(found, tmp_path / "time.png")
    (line,) = (line for line in figures[0].axes[0].get_lines() if line.get_drawstyle() == "steps-post")
    scale = 100 if measure == "accuracy" else -1  # of what is good
    points = [(arm.seconds.mean, scale * getattr(arm, measure).mean) for arm in found.arms]
    best = sorted(p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points))
    np.testing.assert_allclose([line.get_xdata(), np.multiply(line.get_ydata(), 1 if scale > 0 else -1)], np.transpose(best))


def test_many_arms_are_cut_to_the_farthest(tmp_path: Path) -> None:
    sweep = Sweep("many", experiment(), (grid({"batch_size": tuple(range(8, 60))}),))
    fill(tmp_path / "many", sweep, lambda run, _: 1.0, n=50)
    found = compare_arms(tmp_path / "many")
    shown = plots._to_show(found, found.arms, 8)
    assert len(shown) == 8 and shown[0].name == found.baseline
    least = min(abs(arm.paired.mean) for arm in shown[1:] if arm.paired)
    assert all(abs(arm.paired.mean) <= least for arm in found.arms if arm.paired and arm not in shown)
    assert len(plots.draw_all(found, tmp_path / "out")) == 3


def test_two_axes_make_a_map(tmp_path: Path) -> None:
    sweep = Sweep("two", experiment(), (grid({"stages.0.lr": (0.01, 0.1), "label_smoothing": (0.0, 0.1, 0.2)}),))
    fill(tmp_path / "two", sweep, lambda run, _: 1 + run.values[1][1], skip=(4,))
    found = compare_arms(tmp_path / "two")
    table = plots.two_axes(found)
    assert table is not None and table[:2] == (("stages.0.lr", "label_smoothing"), ([0.01, 0.1], [0.0, 0.1, 0.2]))
    expected = [[run.value("test", "accuracy", False) for run in arm.runs] or [np.nan] for arm in found.arms]
    np.testing.assert_array_equal(table.means.ravel(), np.ravel(expected))
    assert [path.name for path in plots.draw_all(found, tmp_path / "out")][-1] == "map.png"
    assert plots.two_axes(compare_arms(tmp_path / "two")._replace(arms=found.arms[:3])) is None  # one rate is no axis


def test_labels_keep_their_order_and_their_distance() -> None:
    wanted = [1.0, 1.01, 0.0, 5.0, 1.02]
    placed = plots._spread_out(wanted, 0.5, 0, 5)
    assert np.argsort(placed, kind="stable").tolist() == np.argsort(wanted, kind="stable").tolist()
    assert np.diff(sorted(placed)).min() >= 0.5 - 1e-9 and min(placed) >= 0 and max(placed) <= 5
    crowded = plots._spread_out([1.0] * 20, 0.5, 0, 5)
    assert min(crowded) >= 0 and max(crowded) <= 5
