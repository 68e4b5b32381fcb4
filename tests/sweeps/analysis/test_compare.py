"""What a sweep has found: pairs, what is left out, tables and pictures, from folders made without training."""

import csv
import io
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sgdr_jax.cli import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.evaluation import predictions
from sgdr_jax.sweeps import Sweep, arms, grid
from sgdr_jax.sweeps.analysis import plots, render
from sgdr_jax.sweeps.analysis.compare import Comparison, compare_arms
from sgdr_jax.sweeps.analysis.run_results import learning_curve
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder

from ...helpers import experiment
from ..results import answers as random_answers
from ..results import fill

SKILL = {"recipe": 1.2, "without": 0.7, "same": 1.2}
SWEEP = Sweep(
    "three",
    experiment(),
    (arms({"recipe": {}, "without": {"label_smoothing": 0.1}, "same": {"label_smoothing": 0.2}}),),
    seeds=(0, 1, 2, 3, 4, 5),
    question="Does it help?\n\nAnd | how?",
)
LEFT_OUT = {"skip": (8, 9)}  # of "without" the seeds 2 and 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweeps") / "three"
    fill(made, SWEEP, lambda run, _: SKILL[run.arm], n=400, tta=True, skip=LEFT_OUT["skip"])
    (made / "failed").mkdir()
    run = expand(SWEEP)[9]
    (made / "failed" / f"{run.hash}.json").write_text(json.dumps({"arm": run.arm, "seed": run.seed, "error": "the loss is nan"}))
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Comparison:
    return compare_arms(folder)


def of(found: Comparison, name: str) -> Any:
    return next(arm for arm in found.arms if arm.name == name)


def test_every_figure_is_scipys(found: Comparison) -> None:
    base, other = of(found, "recipe"), of(found, "without")
    figures = {arm.name: {run.seed: run.summary["test"]["accuracy"] for run in arm.runs} for arm in found.arms}
    seeds = (0, 1, 4, 5)
    first, second = ([figures[name][seed] for seed in seeds] for name in ("without", "recipe"))
    paired = other.paired
    assert paired.seeds == seeds and base.paired is None
    np.testing.assert_allclose(paired.differences, np.subtract(first, second))
    assert paired.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert paired.p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    p = sorted((arm.paired.p, arm.name) for arm in found.arms if arm.paired)
    # There is no Holm in scipy; two arms are done by hand.
    by_hand = {p[0][1]: min(2 * p[0][0], 1), p[1][1]: min(max(2 * p[0][0], p[1][0]), 1)}
    assert {arm.name: arm.paired.p_holm for arm in found.arms if arm.paired} == pytest.approx(by_hand)
    assert base.accuracy.mean == pytest.approx(np.mean(list(figures["recipe"].values()))) and base.accuracy.n == 6
    assert base.accuracy.std == pytest.approx(np.std(list(figures["recipe"].values()), ddof=1))
    assert paired.verdict == "worse" and of(found, "same").paired.verdict == "undecided"
    assert of(found, "same").paired.needed > 6 and paired.needed is None
    assert paired.low < paired.mean < paired.high < 0


def test_the_answers_to_the_examples_are_compared(found: Comparison) -> None:
    total = [0, 0]
    for run in of(found, "without").runs:
        other = next(r for r in of(found, "recipe").runs if r.seed == run.seed)
        first, second = (predictions.load(r.folder, "test") for r in (run, other))
        assert first is not None and second is not None
        total[0] += int((first.correct() & ~second.correct()).sum())
        total[1] += int((second.correct() & ~first.correct()).sum())
    change = of(found, "without").paired.change
    assert [change.gained, change.lost] == total and change.p < 0.001
    # Each net difference is in the accuracies too.
    assert (change.gained - change.lost) / 400 / 4 == pytest.approx(of(found, "without").paired.mean)


def test_what_is_not_finished_is_named(found: Comparison, folder: Path) -> None:
    assert set(found.left_out) == {"without, seed 2: not run yet", "without, seed 3: failed: the loss is nan"}
    run = expand(SWEEP)[8]
    own = run_folder(folder, run.hash)
    own.mkdir()
    try:
        assert "without, seed 2: begun, not finished" in compare_arms(folder).left_out
        (own / "summary.json").write_text("{")
        assert any(line.startswith("without, seed 2: ") and "cannot be read" in line for line in compare_arms(folder).left_out)
    finally:
        (own / "summary.json").unlink(missing_ok=True)
        own.rmdir()
    turned = compare_arms(folder, baseline="without")
    assert [line for line in turned.left_out if "recipe" in line] == [
        f"recipe, seed {seed}: the baseline has not finished with this seed, so there is no pair" for seed in (2, 3)
    ]


def test_folders_that_changed_places_and_lost_figures_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "s", SWEEP, lambda run, _: SKILL[run.arm])
    before, runs = compare_arms(tmp_path / "s"), expand(SWEEP)
    one, other = (run_folder(tmp_path / "s", runs[i].hash) for i in (0, 6))
    for old, new in ((one, tmp_path / "kept"), (other, one), (tmp_path / "kept", other)):
        old.rename(new)
    found = compare_arms(tmp_path / "s")
    assert {line.partition(": its folder")[0] for line in found.left_out if "holds a run of config" in line} == {
        "recipe, seed 0",
        "without, seed 0",
    }
    assert len(of(found, "recipe").runs) == len(of(before, "recipe").runs) - 1
    summary = run_folder(tmp_path / "s", runs[1].hash) / "summary.json"
    summary.write_text(json.dumps({"valid": json.loads(summary.read_text())["valid"]}))
    found = compare_arms(tmp_path / "s")
    assert found.figure.split == "test" and "recipe, seed 1: no accuracy of test" in found.left_out


def test_another_baseline_turns_everything(found: Comparison, folder: Path) -> None:
    first, second = of(found, "without").paired, of(compare_arms(folder, baseline="without"), "recipe").paired
    np.testing.assert_array_equal(first.differences, -second.differences)
    assert (first.low, first.high) == (-second.high, -second.low)
    assert first.p == second.p and first.change.p == second.change.p and first.change[:2] == second.change[1::-1]
    assert (first.verdict, second.verdict) == ("worse", "better")


def test_other_measures_and_splits(folder: Path) -> None:
    assert of(compare_arms(folder, measure="loss"), "without").paired.verdict == "worse"
    assert of(compare_arms(folder, measure="loss"), "without").paired.mean > 0
    views = compare_arms(folder, tta=True)
    run = of(views, "without").runs[0]
    assert run.value("test", "accuracy", True) == run.summary["test"]["tta_accuracy"] != run.summary["test"]["accuracy"]
    assert of(views, "without").tta_accuracy.mean == of(compare_arms(folder), "without").tta_accuracy.mean
    assert compare_arms(folder, split="valid").figure.split == "valid"


def test_other_examples_are_no_pair(tmp_path: Path) -> None:
    fill(tmp_path / "s", SWEEP, lambda run, _: 1.0)
    for run in expand(SWEEP):
        if run.arm == "same" and run.seed in (0, 1):
            kept = predictions.load(own := run_folder(tmp_path / "s", run.hash), "test")
            assert kept is not None
            predictions.save(own, "test", [f"other {i}" for i in range(200)], kept.labels, (kept.plain,))
        if run.arm == "same" and run.seed == 2:
            predictions.path_of(run_folder(tmp_path / "s", run.hash), "test").unlink()
        if run.arm == "same" and run.seed == 3:
            predictions.path_of(run_folder(tmp_path / "s", run.hash), "test").write_bytes(b"")
    found = compare_arms(tmp_path / "s")
    lines = [line for line in found.left_out if "same" in line]
    assert [line.partition(": ")[2][:12] for line in lines] == ["other exampl", "other exampl", "no answers k", str(tmp_path)[:12]]
    assert len(of(found, "same").paired.seeds) == 6  # the accuracies are compared all the same
    only = of(found, "same").paired.change
    assert only.gained + only.lost > 0


def test_the_networks_of_each_run_can_be_the_arms(tmp_path: Path) -> None:
    fill(tmp_path / "s", SWEEP, lambda run, _: 1.0)
    others = ("stage-1-cycle-0000", "ensemble, chosen")
    for run in expand(SWEEP):
        own = run_folder(tmp_path / "s", run.hash)
        if run.arm == "same":
            continue
        rng, summary = np.random.default_rng([9, run.number]), json.loads((own / "summary.json").read_text())
        rows = {f"last (stage-1-cycle-000{run.seed % 2})": {"test": summary["test"]}, "final network": {"test": summary["test"]}}
        final = predictions.load(own, "test")
        assert final is not None
        predictions.save(own, "test", [f"test/{i}" for i in range(200)], final.labels, (final.plain,), next(iter(rows)))
        for name in others:
            made, figures = random_answers(final.labels, np.zeros(200), 1.5, rng)
            predictions.save(own, "test", [f"test/{i}" for i in range(200)], final.labels, (made,), name)
            rows[name] = {"test": figures}
        summary["snapshots"] = [{"name": name, "members": []} | row for name, row in rows.items()]
        (own / "summary.json").write_text(json.dumps(summary))
    found = compare_arms(tmp_path / "s", networks=True)
    names = [f"{arm}: {name}" for arm in ("recipe", "without") for name in ("final network", "last", "ensemble, chosen")]
    assert [arm.name for arm in found.arms] == names and found.baseline == "recipe: final network"
    assert set(found.left_out) == {f"same, seed {seed}: no networks kept" for seed in SWEEP.seeds}
    for arm in found.arms[1:3]:
        runs = [json.loads((run.folder / "summary.json").read_text()) for run in arm.runs]
        assert arm.paired is not None and arm.paired.change is not None and arm.paired.seeds == SWEEP.seeds
        named = [next(row for row in run["snapshots"] if row["name"].startswith(arm.name.partition(": ")[2])) for run in runs]
        gains = [row["test"]["accuracy"] - run["test"]["accuracy"] for row, run in zip(named, runs, strict=True)]
        np.testing.assert_allclose(arm.paired.differences, gains)
        change = arm.paired.change  # the answers are those of the same network as the figures
        assert (change.gained - change.lost) / 200 == pytest.approx(sum(gains)) and (arm.name.endswith("last")) == (change.gained == 0)
    assert [path.name for path in plots.draw_all(found, tmp_path / "out")] == ["arms.png"]
    assert any("networks of one run" in note for note in render.notes(found))
    own = compare_arms(tmp_path / "s", networks=True, baseline="without: last")
    assert of(own, "without: final network").paired.mean == 0
    fill(tmp_path / "none", SWEEP, lambda run, _: 1.0)
    with pytest.raises(InputError, match="--networks is True; no finished run has kept any; sweep with --snapshots"):
        compare_arms(tmp_path / "none", networks=True)


def test_bad_input_is_one_line(folder: Path, tmp_path: Path) -> None:
    for wrong, text in (
        ({"baseline": "recipes"}, "--baseline is 'recipes'; the arms are recipe, without, same"),
        ({"alpha": 1.5}, "--alpha is 1.5; use a number between 0 and 1"),
        ({"split": "train"}, "--split is 'train'; use valid or test"),
    ):
        with pytest.raises(InputError, match=re.escape(text)):
            compare_arms(folder, **wrong)
    with pytest.raises(InputError, match=r"has no sweep\.json"):
        compare_arms(tmp_path)
    (tmp_path / "odd").mkdir()
    for text in ("[]", "{}"):
        (tmp_path / "odd" / "sweep.json").write_text(text)
        with pytest.raises(InputError, match="it does not describe a sweep"):
            compare_arms(tmp_path / "odd")
    with pytest.raises(InputError, match="name the folder of a sweep"):
        compare_arms(tmp_path / "odd" / "sweep.json")
    fill(tmp_path / "none", SWEEP, lambda run, _: 1.0, skip=range(18))
    with pytest.raises(InputError, match="none of the 18 runs"):
        compare_arms(tmp_path / "none")


def test_curves_run_through_the_stages(found: Comparison) -> None:
    run = of(found, "recipe").runs[0]
    drawn = learning_curve(run)
    assert drawn.epochs.tolist() == [1, 2, 3, 4]
    head, body = (stage["seconds"] for stage in run.summary["stages"])
    np.testing.assert_allclose(drawn.seconds, [head, head + body / 3, head + 2 * body / 3, head + body])
    assert run.seconds == pytest.approx(head + body)
    assert of(found, "recipe").images.mean == 10 * 64 + 30 * 32


# ---- words ----


def test_one_run_of_each_arm_says_no_more_than_it_knows(tmp_path: Path) -> None:
    sweep = Sweep("one", experiment(), (arms({"recipe": {}, "without": {"label_smoothing": 0.1}}),), seeds=(3,))
    fill(tmp_path / "one", sweep, lambda run, _: SKILL[run.arm])
    found = compare_arms(tmp_path / "one")
    row = dict(zip(render.header(found), render.rows(found)[1], strict=True))
    assert "±" not in row["accuracy %"] and row["95 % interval"] == row["p"] == row["to settle"] == "" and row[""] == "undecided"
    assert row["difference (points)"] and row["p, examples"]
    assert len(render.publish(found, tmp_path / "out")) == 6


def test_the_files_say_the_same(found: Comparison, tmp_path: Path) -> None:
    made = {path.name: path for path in render.publish(found, tmp_path / "out")}
    assert set(made) == {"arms.png", "curves.png", "time.png", "answer.md", "answer.csv", "answer.html"}
    table = list(csv.DictReader(io.StringIO(made["answer.csv"].read_text())))
    assert [row["arm"] for row in table] == ["recipe", "without", "same"]
    assert float(table[1]["difference"]) == of(found, "without").paired.mean and table[1]["verdict"] == "worse"
    assert table[0]["difference"] == "" and int(table[1]["gained"]) == of(found, "without").paired.change.gained

    class Page(HTMLParser):
        cells: list[str]
        sources: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe")
            if tag == "img":
                self.sources.append(dict(attrs)["src"] or "")

        def handle_data(self, data: str) -> None:
            self.cells.append(data)

    page = Page()
    page.cells, page.sources = [], []
    page.feed(made["answer.html"].read_text())
    assert all(source.startswith("data:image/png;base64,") for source in page.sources) and len(page.sources) == 3
    for row in render.rows(found):
        assert all(cell in page.cells for cell in row if cell)
        assert all(render._plain(cell) in made["answer.md"].read_text() for cell in row)
    for text in (made["answer.md"].read_text(), made["answer.html"].read_text()):
        for fact in ("sgdr-jax sweep file.py", "2 cores of Some CPU", "jax 0.12.0.1", "2026-11-25", "abc", "failed: the loss is nan"):
            assert fact in text
        assert "/somewhere" not in text


def test_results_are_put_in_their_place(found: Comparison, tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    render.publish(found, tmp_path / "out", file)
    first = file.read_bytes()
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"three-arms.png", "three-curves.png", "three-time.png"}
    pictures = {path: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    render.publish(found, tmp_path / "out", file)
    assert file.read_bytes() == first and pictures == {path: path.read_bytes() for path in pictures}
    text = file.read_text()
    assert text.startswith("# Results") and "Does it help?" in text and r"And \| how?" in text
    assert "](results/three-arms.png)" in text
    # Another sweep's section goes below, and each is replaced where it stands.
    other = render.put(text, found._replace(name="other", question=""), [])
    assert other.startswith(text.rstrip("\n")) and other.count("## ") == 2
    assert render.put(other, found, [f"results/three-{kind}.png" for kind in ("arms", "curves", "time")]) == other
    with pytest.raises(InputError, match="restore that line"):
        render.put(text.replace("<!-- end three -->", ""), found, [])


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["compare", str(folder), "--out", str(tmp_path / "out"), "--measure", "loss"])
    printed = capsys.readouterr().out
    assert "three: 3 arms" in printed and "left out: without, seed 2: not run yet" in " ".join(printed.split())
    assert (tmp_path / "out" / "answer.html").exists()
    with pytest.raises(SystemExit) as stopped:
        main.main(["compare", str(folder), "--results", str(tmp_path / "no" / "RESULTS.md")])
    assert stopped.value.code == 2 and not (folder / "answer").exists()
    (tmp_path / "a file").touch()
    with pytest.raises(SystemExit) as stopped:
        main.main(["compare", str(folder), "--out", str(tmp_path / "a file")])
    assert stopped.value.code == 2 and "it is a file; name a folder" in capsys.readouterr().err


# ---- pictures ----


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


@pytest.mark.slow
def test_a_thousand_runs_are_answered_at_once(tmp_path: Path) -> None:
    sweep = Sweep("thousand", experiment(), (grid({"batch_size": tuple(range(8, 108))}),), seeds=tuple(range(10)))
    fill(tmp_path / "s", sweep, lambda run, _: 1.0 + 0.01 * (run.number // 10), n=100, updates=100)
    store = sum(path.stat().st_size for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert store < 50e6
    began = time.process_time()
    found = compare_arms(tmp_path / "s")
    render.terminal(found)
    render.publish(found, tmp_path / "out")
    assert time.process_time() - began < 5
