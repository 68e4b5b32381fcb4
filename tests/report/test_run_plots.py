"""Plots of run folders: what is drawn where, checked on the figures themselves, and runs with missing rows."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.text import one_line
from sgdr_jax.report import run_plots, style
from sgdr_jax.report.run_curves import by_stage
from sgdr_jax.runs import folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of each picture, top to bottom, as they were when it was saved."""
    pictures: list[Any] = []
    real = run_plots._save

    def save(axes: Any, path: Any) -> Path:
        pictures.append(axes.get_figure().axes)
        return real(axes, path)

    monkeypatch.setattr(run_plots, "_save", save)
    return pictures


def train(stage: str, step: int, lr: dict[str, float], loss: float | None = 1.0, per_epoch: int = 10) -> dict[str, Any]:
    return {"kind": "train", "stage": stage, "step": step, "epoch": step / per_epoch, "loss": loss, "lr": lr, "momentum": 0.9}


def evaluated(stage: str, step: int, cycle: int, loss: float = 0.5, accuracy: float = 0.8, per_epoch: int = 10) -> dict[str, Any]:
    epoch = step / per_epoch
    return {
        "kind": "eval",
        "stage": stage,
        "step": step,
        "cycle": cycle,
        "epoch": epoch,
        "split": "valid",
        "loss": loss,
        "accuracy": accuracy,
    }


def example() -> list[dict[str, Any]]:
    rows = []
    for step in range(20):
        rows.append(train("head", step, {"head": 0.1 * (1 - step % 10 / 10)}, loss=2 - step / 20))
        if step % 10 == 9:
            rows.append(evaluated("head", step + 1, step // 10, accuracy=0.5 + step / 100))
    for step in range(30):
        rows.append(train("all", step, {"early": 0.001, "late": 0.0, "head": 0.01}, loss=None if step == 3 else 1.0))
    return [*rows, evaluated("all", 30, 0, accuracy=0.9)]


def lines(axes: Any) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Colour to the curves of that colour, without vertical lines."""
    found: dict[str, list[tuple[list[float], list[float]]]] = {}
    for line in axes.get_lines():
        x, y = np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()
        if len(set(x)) > 1 or len(x) == 1:
            found.setdefault(line.get_color(), []).append((x, y))
    return found


def verticals(axes: Any) -> list[float]:
    return sorted(line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1)


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_rates_are_drawn_where_they_were_used(tmp_path: Path, drawn: list[Any]) -> None:
    path = run_plots.plot_lr_schedule(example(), tmp_path / "new" / "lr.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    ((axes,),) = drawn
    assert legend(axes) == ["early", "head"]  # In the order of the model; "late" stood still throughout.
    curves = lines(axes)
    (early,) = curves[run_plots._COLOURS[0]]
    assert early == (list(range(20, 50)), [0.001] * 30)
    head = curves[run_plots._COLOURS[2]]
    assert [x for x, _ in head] == [list(range(20)), list(range(20, 50))]
    assert head[0][1] == [row["lr"]["head"] for row in example()[:22] if row["kind"] == "train"]
    assert verticals(axes) == [10, 20]  # The restart and the border of the stages, not the end.
    assert [text.get_text() for text in axes.texts] == ["head", "all"]
    assert axes.get_yscale() == "log"


def test_rates_of_a_plan(tmp_path: Path, drawn: list[Any]) -> None:
    rows = [{"stage": "a", "step": step, "cycle": step // 4, "lr": {"head": 1.0}} for step in range(12)]
    run_plots.plot_lr_schedule(rows, tmp_path / "lr.png")
    run_plots.plot_lr_schedule(rows, tmp_path / "log.png", log=True)
    assert verticals(drawn[0][0]) == [4, 8]
    assert [axes.get_yscale() for (axes,) in drawn] == ["linear", "log"]


def test_losses_are_drawn_with_their_running_mean(tmp_path: Path, drawn: list[Any]) -> None:
    run_plots.plot_losses(example(), tmp_path / "loss.png")
    ((losses, accuracies),) = drawn
    raw, mean = lines(losses)[run_plots._COLOURS[0]][:2]
    assert raw == ([step / 10 for step in range(20)], [2 - step / 20 for step in range(20)])
    expected, average, weight = [], 0.0, 0.0
    for value in raw[1]:
        average, weight = 0.8 * average + 0.2 * value, 0.8 * weight + 0.2
        expected.append(average / weight)
    assert mean[1] == pytest.approx(expected)
    assert lines(losses)[run_plots._COLOURS[1]] == [([1.0, 2.0], [0.5, 0.5]), ([5.0], [0.5])]
    assert lines(accuracies)[run_plots._COLOURS[1]] == [([1.0, 2.0], [0.59, 0.69]), ([5.0], [0.9])]
    assert [text.get_text() for text in accuracies.texts] == ["0.690", "0.900"]
    assert verticals(accuracies) == [2]


def test_no_tick_is_above_all_images(tmp_path: Path, drawn: list[Any]) -> None:
    run_plots.plot_losses([row | {"accuracy": 1.0} if "accuracy" in row else row for row in example()], tmp_path / "loss.png")
    ((_, accuracies),) = drawn
    low, high = accuracies.get_ylim()
    assert low < 1 < high and max(accuracies.get_yticks()) == 1


def test_a_loss_that_is_not_finite_is_a_gap(tmp_path: Path, drawn: list[Any]) -> None:
    run_plots.plot_losses([train("a", step, {}, loss=None if step > 1 else 1.0) for step in range(4)], tmp_path / "loss.png")
    ((axes,),) = drawn
    (_, raw), (_, mean) = lines(axes)[run_plots._COLOURS[0]]
    assert raw[:2] == [1, 1] and all(math.isnan(y) for y in raw[2:])
    assert mean == pytest.approx([1, 1, 1, 1])


def finder(n: int = 50) -> dict[str, Any]:
    lrs = np.geomspace(1e-6, 10, n)
    losses = 2 - 1 / (1 + lrs / 1e-3) + np.maximum(np.log10(lrs) + 1, 0) ** 2
    found = {"valley": 1e-3, "steep": 1e-3, "minimum": 1e-2, "slide": 0.1}
    return {
        "stage": "head",
        "lrs": lrs.tolist(),
        "losses": losses.tolist(),
        "smoothed": losses.tolist(),
        "suggestions": found,
        "chosen": 1e-3,
        "rule": "valley",
        "verdict": "clear",
    }


def test_the_finder_shows_all_rules_and_the_choice(tmp_path: Path, drawn: list[Any]) -> None:
    curve = finder()
    run_plots.plot_lr_finder(curve, tmp_path / "finder.png")
    ((axes,),) = drawn
    wanted = ["loss of a batch", "running mean", "chosen: 0.001", "valley: 0.001", "steep: 0.001", "minimum: 0.01", "slide: 0.1"]
    assert legend(axes) == wanted
    assert axes.get_title(loc="left") == 'stage "head": learning rate 0.001 by the rule valley; clear'
    assert verticals(axes) == [1e-3]
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if len(line.get_xdata()) == 1}
    x, y = points["minimum: 0.01"]
    assert (x, y) == (0.01, pytest.approx(2 - 1 / 11, abs=0.01))


@pytest.mark.parametrize("n", [1, 2, 6])
def test_a_finder_that_ended_at_once(tmp_path: Path, n: int) -> None:
    curve = finder(n) | {"smoothed": [2.0] * (n - 1) + [None], "losses": [2.0] * (n - 1) + [None], "verdict": "no clear valley"}
    assert run_plots.plot_lr_finder(curve, tmp_path / "finder.png").stat().st_size > 1000


def test_pictures_of_a_run_folder(tmp_path: Path) -> None:
    with folder.open_run(tmp_path / "r", {"name": "a"}, "abc") as book:
        assert run_plots.plot_run(book.path) == ()
        book.append(train("head", 0, {"head": 0.1}))
        book.write_finder("all, slowly", finder())
        first = {path.name: path.read_bytes() for path in run_plots.plot_run(book.path)}
        assert set(first) == {"lr.png", "loss.png", "finder-all%2C slowly.png"}
        assert first == {path.name: path.read_bytes() for path in run_plots.plot_run(book.path)}
    with pytest.raises(InputError, match=r"no config\.json"):
        run_plots.plot_run(tmp_path)


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    for draw in (run_plots.plot_lr_schedule, run_plots.plot_losses):
        with pytest.raises(InputError, match="trained at least one step"):
            draw([], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys; import sgdr_jax.report.run_plots; print([m for m in ('matplotlib', 'jax') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_a_solved_head_alone_has_no_rates_to_name(tmp_path: Path, drawn: list[Any]) -> None:
    """Matplotlib complained of a legend without entries at each end of a run with `budget=0`."""
    row = {
        "kind": "train",
        "step": 0,
        "loss": 0.1,
        "lr": {"head": 0.0},
        "momentum": 0.0,
        "stage": "cached head",
        "stage_index": 0,
        "epoch": 0.0,
    }
    run_plots.plot_lr_schedule([row], tmp_path / "lr.png")
    assert drawn[0][0].get_legend() is None


def solved() -> list[dict[str, Any]]:
    return [train("head", 0, {"head": 0.0}, loss=0.4, per_epoch=1), evaluated("head", 1, 0, per_epoch=1)]


def test_a_run_without_rates_has_no_picture_of_them(tmp_path: Path) -> None:
    """It was empty."""
    with folder.open_run(tmp_path / "r", {"name": "a"}, "abc") as book:
        for row in solved():
            book.append(row)
        assert [path.name for path in run_plots.plot_run(book.path)] == ["loss.png"]
        book.append(train("all", 0, {"head": 0.1}))
        assert [path.name for path in run_plots.plot_run(book.path)] == ["lr.png", "loss.png"]


@pytest.mark.parametrize(
    ("losses", "raw", "mean"),
    [
        ([0.4], [0], [0]),
        ([0.4, None], [0], []),
        ([None, 0.4], [1], [1]),
        ([0.4, None, 0.3], [0, 2], []),
        ([0.4, 0.3], [], []),
        ([None], [], []),
    ],
)
def test_losses_that_no_line_shows_are_marked(
    tmp_path: Path, drawn: list[Any], losses: list[float | None], raw: list[int], mean: list[int]
) -> None:
    """A solved head has one update: "training" was in the legend, and nothing to see."""
    run_plots.plot_losses([train("head", i, {"head": 0.0}, loss) for i, loss in enumerate(losses)], tmp_path / "loss.png")
    first, second = drawn[0][0].get_lines()[:2]
    assert [line.get_markevery() or [] for line in (first, second)] == [raw, mean]
    assert [line.get_marker() != "None" for line in (first, second)] == [bool(raw), bool(mean)]


def test_a_stage_that_was_trained_twice_is_drawn_twice() -> None:
    """Both passes lay over one another, joined by a line from the end back to the beginning."""
    rows = [{"kind": "train", "stage": "head", "step": i, "epoch": i / 2, "loss": 1.0} for _ in range(2) for i in range(4)]
    ends = [{"kind": "eval", "stage": "head", "step": 4, "epoch": 2.0, "loss": 1.0}]
    parts = by_stage([*rows[:4], *ends, *rows[4:], *ends], "epoch")
    assert [(part.stage, part.start, part.end, len(part.rows)) for part in parts] == [("head", 0, 2, 5), ("head", 2, 4, 5)]
    assert [part.stage for part in by_stage([*rows[:4], rows[0] | {"stage": "all"}, *rows[4:]], "step")] == ["head", "all", "head"]


def test_names_with_dollar_signs_are_no_mathematics_and_ticks_are(tmp_path: Path) -> None:
    figure = style.figure(2, 2)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(1e-3, 1)
    axes.set_title("$he$ad \\foo_$")
    style.save(figure, tmp_path / "a.png")
    assert not axes.title.get_parse_math() and any(tick.get_parse_math() for tick in axes.get_xticklabels())


NAMES = ("cat", "a" * 120, "W" * 40, "🦊 fox", "猫" * 30, "$x_$", "two\nlines", "0.70 " + "a" * 30 + " + 0.30 " + "b" * 30, "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_caption_moves_an_image_or_meets_its_neighbour(tmp_path: Path, name: str) -> None:
    """One long class name made all images smaller, captions ran together, and a letter that the font lacks was a warning."""
    sheets = []
    for captions in ([["cat"] * 3] * 2, [["cat", name, name], [name] * 3]):
        figure = run_plots.draw_images(("plain", "draw 1", "draw 2"), np.zeros((2, 3, 8, 8, 3)), captions)
        style.save(figure, tmp_path / "batch.png")
        sheets.append(figure)
    plain, named = ([axes.get_window_extent().bounds for axes in figure.axes] for figure in sheets)
    assert plain == named and min(width for _, _, width, _ in named) > 190
    texts = [axes.texts[0] for axes in sheets[1].axes]
    assert [text.get_text() for text in texts] == [
        text if len(text) < 10 else texts[1].get_text() for text in ("cat", *[one_line(name)] * 5)
    ]
    boxes, canvas = [text.get_window_extent() for text in texts], sheets[1].bbox
    shown = [box for box in boxes if box.width]
    assert all(canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 for box in shown)
    assert not any(box.overlaps(other) for i, box in enumerate(shown) for other in shown[:i])
    assert not any(box.overlaps(axes.get_window_extent()) for box in shown for axes in sheets[1].axes)
    assert len(name) < 40 or texts[1].get_text().endswith("…")
