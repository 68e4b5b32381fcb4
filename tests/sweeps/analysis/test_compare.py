"""What a sweep has found: pairs, figures, what is left out, from folders made without training."""

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sgdr_jax.core import files
from sgdr_jax.core.errors import InputError
from sgdr_jax.evaluation import predictions
from sgdr_jax.runs.data_index import write_index
from sgdr_jax.sweeps import Sweep, grid
from sgdr_jax.sweeps.analysis import plots, render
from sgdr_jax.sweeps.analysis.compare import Comparison, Metric, compare_arms
from sgdr_jax.sweeps.analysis.run_results import RunResult, by_network, learning_curve
from sgdr_jax.sweeps.analysis.significance import detectable, seeds_needed
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder

from ...helpers import experiment
from ..results import answers as random_answers
from ..results import fill
from .three_arms import SKILL, SWEEP, of


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
    same = of(found, "same").paired  # of two arms, so that the smallest p has to be half as large
    std = float(np.std(same.differences, ddof=1))
    assert same.needed == seeds_needed(same.mean, std, 0.025) and same.detectable == detectable(std, 6, 0.025)
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


def test_runs_on_other_training_images_make_no_pair(tmp_path: Path) -> None:
    """A folder that grew in the middle of a sweep showed as +47 points for the arm that ran later."""
    fill(tmp_path, SWEEP, lambda run, _: SKILL[run.arm])
    index = {"classes": ["a", "b"], "names": {"train": ["a/0", "b/0"]}, "labels": {"train": [[0], [1]]}, "digests": {"train": ["0", "1"]}}
    grown = index | {"names": {"train": ["a/0", "b/0", "b/1"]}, "labels": {"train": [[0], [1], [1]]}, "digests": {"train": ["0", "1", "2"]}}
    for run in expand(SWEEP):
        write_index(run_folder(tmp_path, run.hash), grown if run.arm == "without" and run.seed < 2 else index)
    found = compare_arms(tmp_path)
    assert of(found, "without").paired.seeds == (2, 3, 4, 5) and of(found, "same").paired.seeds == (0, 1, 2, 3, 4, 5)
    assert found.left_out == tuple(f"without, seed {s}: trained on other images than the baseline, so there is no pair" for s in (0, 1))
    (run_folder(tmp_path, expand(SWEEP)[7].hash) / "images.json.gz").unlink()  # of a run of an early version
    assert of(compare_arms(tmp_path), "without").paired.seeds == (1, 2, 3, 4, 5)
    config = run_folder(tmp_path, expand(SWEEP)[6].hash) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"data": "other"}))
    assert of(compare_arms(tmp_path), "without").paired.seeds == (0, 1, 2, 3, 4, 5)  # an arm that asks for other data


def test_results_stay_whole_or_are_refused_before_anything_is_written(found: Comparison, tmp_path: Path) -> None:
    results, out = tmp_path / "RESULTS.md", tmp_path / "out"
    results.write_bytes("# Ergebnisse für alle\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"^--results is .*RESULTS.md, which is not UTF-8 \(.* at byte 14\); save it as UTF-8"):
        render.publish(found, out, results)
    assert not out.exists()
    results.write_text("# Results\n\nwords\n")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(files, "replacing", full)
        render.publish(found, tmp_path, results)
    assert results.read_text() == "# Results\n\nwords\n"


def full(path: Path) -> Any:
    raise OSError(f"{path}: the disk is full")


def test_names_with_dollar_signs_are_drawn_as_they_are(found: Comparison, tmp_path: Path) -> None:
    """Two of them are mathematics to matplotlib: an error after the sweep has run, or a formula in silence."""
    odd = found._replace(arms=tuple(arm._replace(name=f"${arm.name} \\foo_$") for arm in found.arms), baseline="$recipe \\foo_$")
    assert len(plots.draw_all(odd, tmp_path)) == 3


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
    assert found.metric.split == "test" and "recipe, seed 1: no accuracy of test" in found.left_out


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
    assert compare_arms(folder, split="valid").metric.split == "valid"


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


def test_figures_that_one_network_alone_has_are_not_compared(tmp_path: Path) -> None:
    """Those of earlier versions measured the average precision of the final network alone."""
    figures = {"accuracy": 0.9, "f2": 0.7, "loss": 0.2}
    rows = [{"name": "last (stage-0-cycle-0000)", "test": figures}, {"name": "final network", "test": figures | {"map": 0.95}}]
    run = RunResult(tmp_path, "a", 0, {}, "", {"snapshots": rows, "test": figures | {"map": 0.95}}, {})
    assert [Metric("test", "accuracy", tta=False).of(network) for network in by_network(run)] == [0.7, 0.7]


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
        ({"alpha": 1.5}, "--alpha is 1.5; use a number from 0.000001 to below 1"),
        ({"split": "train"}, "--split is 'train'; use valid or test"),
    ):
        with pytest.raises(InputError, match=re.escape(text)):
            compare_arms(folder, **wrong)
    with pytest.raises(InputError, match=r"has no sweep\.json"):
        compare_arms(tmp_path)
    (tmp_path / "odd").mkdir()
    for text in ("[]", "{}"):
        (tmp_path / "odd" / "sweep.json").write_text(text)
        with pytest.raises(InputError, match=r"the whole is .*, not an object|has no field"):
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
    assert of(found, "recipe").images.mean == 10 * 64 + 30 * 32  # of a run that has not counted them


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
