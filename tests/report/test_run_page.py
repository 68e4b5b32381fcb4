"""The page of a run: sections for each kind of run, names shown as they are, one file of bounded size."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sgdr_jax.core.errors import InputError
from sgdr_jax.evaluation import predictions
from sgdr_jax.report.html import data_uri
from sgdr_jax.report.run_page import Map, read_run_page, run_html

from .run_folders import NASTY, Page, check_self_contained, write_run

ALL = {"steps", "curves", "mistakes", "pictures", "classes", "calibration", "data", "origin"}


def parsed(text: str) -> Page:
    page = Page(text)
    check_self_contained(text, page)
    return page


@pytest.mark.parametrize("names", [("cat", "dog"), tuple(f"class {i}" for i in range(10))], ids=["2", "10"])
def test_a_finished_run_has_every_section(tmp_path: Path, names: tuple[str, ...]) -> None:
    page = parsed(run_html(read_run_page(write_run(tmp_path / "run", names))))
    assert set(page.ids()) >= ALL and "confusion" in page.ids()
    heads = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert heads == {f"#{name}" for name in (*ALL, "main")}
    charts = [a["aria-label"] for _, a in page.elements if a.get("role") == "img"]
    assert [text.partition(":")[0] for text in charts] == [
        "Loss",
        "Validation accuracy",
        "Learning rates of the layer groups",
        "all",
        "Reliability",
        "Accuracy by number of views",
    ]


def test_the_headline_has_the_figures_and_their_intervals(tmp_path: Path) -> None:
    view = read_run_page(write_run(tmp_path / "run"))
    found = predictions.load(tmp_path / "run", "test")
    assert found is not None and found.tta is not None
    right = found.tta.predicted == found.labels
    p, loss = right.mean(), found.tta.loss
    text = " ".join(parsed(run_html(view)).texts)
    low, high = stats.binomtest(int(right.sum()), 60).proportion_ci(0.95, "wilson")
    assert f"Test accuracy {100 * p:.1f} % ({100 * low:.1f}–{100 * high:.1f})" in " ".join(text.split())
    low, high = stats.t.interval(0.95, 59, loss.mean(), stats.sem(loss))
    assert f"Test log-loss {loss.mean():.3f} ({low:.3f}–{high:.3f})" in " ".join(text.split())
    assert "50.0 (31.8–68.2)" in text and "70.0 (50.4–84.3)" in text  # stages: Wilson's of 25 images
    assert "undone: not better than before" in text and "1 min 10 s" in text


def changed(folder: Path, name: str, **values: object) -> Path:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


def test_a_stage_is_undone_by_the_verdict_of_the_run(tmp_path: Path) -> None:
    """The terminal said "clearly worse", the page "not better", which says less."""
    text = " ".join(parsed(run_html(read_run_page(changed(write_run(tmp_path / "run"), "config.json", leeway=1.0)))).texts)
    assert "undone: clearly worse than before" in text and "not better" not in text


@pytest.mark.parametrize("splits", [("test",), ("valid",), ("valid", "test")], ids=" and ".join)
@pytest.mark.parametrize("refit", [False, True], ids=["one training", "refit"])
def test_figures_of_validation_images_are_not_those_of_a_refit(tmp_path: Path, splits: tuple[str, ...], refit: bool) -> None:
    """They were called those of the final network, which has trained on these images."""
    folder = changed(write_run(tmp_path / "run", split=splits[0]), "summary.json", refit=refit)
    found = predictions.load(folder, splits[0])
    assert found is not None and found.tta is not None
    for split in splits[1:]:
        predictions.save(folder, split, [str(i) for i in range(60)], found.labels, (found.plain, found.tta))
    for shown in splits:
        text = run_html(read_run_page(folder, shown))
        words = " ".join(" ".join(parsed(text).texts).split())
        notes = re.findall(r'scope="row"><bdi>(test|validation), .*?<td class="text">([^<]*)</td></tr>', text, re.DOTALL)
        before = refit and "valid" in splits
        own = {"test": "final network", "validation": "before the refit" if refit else "final network"}
        assert len(notes) == 2 * len(splits) and all(note == own[split] for split, note in notes)
        assert ("then the final network on all held-out images" in words) == (not before)
        assert ("the first training's network on the validation images" in words) == before
        assert ("views mixed, by the network before the refit" in words) == (refit and shown == "valid")


@pytest.mark.parametrize("counted", [{}, {"across_splits_images": 12}], ids=["earlier version", "counted"])
def test_images_with_the_same_pixels_are_counted_in_groups(tmp_path: Path, counted: dict[str, int]) -> None:
    """A group of twelve images read as one image."""
    words = parsed(run_html(read_run_page(changed(write_run(tmp_path / "run"), "data.json", **counted)))).texts
    assert words[words.index("same pixels in several splits") + 1] == "1 group" + ", 12 images" * bool(counted)
    assert {"0 groups", "Same pixels in several splits: 1 group"} <= set(words)


def test_the_matrix_counts_every_image_once(tmp_path: Path) -> None:
    page = parsed(run_html(read_run_page(write_run(tmp_path / "run", tuple("abc"), 200))))
    rows = [attributes for tag, attributes in page.elements if tag == "tr" and "data-images" in attributes]
    found = predictions.load(tmp_path / "run", "test")
    assert found is not None and found.tta is not None
    assert [int(row["data-images"]) for row in rows] == np.bincount(found.labels).tolist()
    wrong = found.labels != found.tta.predicted
    assert [int(row["data-missed"]) for row in rows] == np.bincount(found.labels[wrong], minlength=3).tolist()


@pytest.mark.parametrize("multi_label", [False, True], ids=["one label", "several"])
def test_names_are_shown_as_they_are_and_harmless(tmp_path: Path, multi_label: bool) -> None:
    text = run_html(read_run_page(write_run(tmp_path / "run", NASTY, multi_label=multi_label)))
    page = parsed(text)
    for name in NASTY:
        assert name in page.texts, name
    assert page.count("script") == 1 and "<script>alert" not in text and "onerror" not in {n for _, a in page.elements for n in a}
    assert "bad\x1b<i>.png" in page.texts and "train: <b>.png" in page.texts


def test_several_labels_have_no_matrix(tmp_path: Path) -> None:
    page = parsed(run_html(read_run_page(write_run(tmp_path / "run", tuple("abcd"), multi_label=True))))
    assert "confusion" not in page.ids() and set(page.ids()) >= ALL
    assert any(text.startswith("An image can have several classes here") for text in page.texts)
    assert re.search(r"Test labels right\s+\d\d\.\d % \(\d\d\.\d–\d\d\.\d\)", " ".join(" ".join(page.texts).split()))


@pytest.mark.parametrize("threshold", [None, 0.2317], ids=["not fitted", "fitted"])
def test_accuracies_of_several_labels_say_their_threshold(tmp_path: Path, threshold: float | None) -> None:
    """The chart of the views drew those at 0.5 within the interval of those at the fitted threshold, and neither was told."""
    folder = write_run(tmp_path / "run", tuple("abcd"), multi_label=True)
    views = [{"loss": 0.5, "accuracy": 0.8, "f2": 0.7}, {"loss": 0.45, "accuracy": 0.82, "f2": 0.71}]
    fitted = {} if threshold is None else {"threshold": {"value": threshold, "beta": 2.0, "f_beta": {}}}
    view = read_run_page(changed(folder, "summary.json", tta={"test": views}, **fitted))
    page = parsed(run_html(view))
    text = " ".join(" ".join(page.texts).split())
    assert f"60 images, threshold {0.5 if threshold is None else threshold:.3f}" in text
    assert {"accuracy at 0.5", "f2 at 0.2", "gain in accuracy at 0.5, points"} <= set(page.texts)
    (chart,) = (a["aria-label"] for _, a in page.elements if "by number of views" in a.get("aria-label", ""))
    assert chart.startswith("Accuracy at 0.5 by number of views")
    assert ("95 % interval" in page.texts) == (threshold is None)  # which is that of the images' predictions


def test_all_images_right_does_not_mean_that_all_images_are_right(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", n=16)
    found = predictions.load(folder, "test")
    assert found is not None
    perfect = found.plain._replace(predicted=found.labels)
    predictions.save(folder, "test", [str(i) for i in range(16)], found.labels, (perfect, perfect))
    text = " ".join(" ".join(parsed(run_html(read_run_page(folder))).texts).split())
    assert "Test accuracy 100.0 % (80.6–100.0)" in text and "100.0 (80.6–100.0)" in text and "±" not in text


def test_a_run_that_was_interrupted_shows_what_it_has(tmp_path: Path) -> None:
    page = parsed(run_html(read_run_page(write_run(tmp_path / "run", finished=False))))
    assert {"steps", "curves", "data", "origin"} <= set(page.ids()) and "mistakes" not in page.ids()
    text = " ".join(page.texts)
    assert "This run has not finished" in text and "50.0 % (31.8–68.2)" in text and "in head, so far" in text


def test_an_unfinished_run_of_several_labels_is_judged_by_map(tmp_path: Path) -> None:
    """The page showed mean average precision and called it accuracy."""
    run = write_run(tmp_path / "run", finished=False)
    rows = (run / "metrics.jsonl").read_text().replace('"accuracy": 0.5', '"accuracy": 0.5, "map": 0.75')
    (run / "metrics.jsonl").write_text(rows)
    text = " ".join(parsed(run_html(read_run_page(run))).texts)
    assert "Best validation mAP" in text and "75.0 %" in text and "mAP %" in text and "alidation accuracy" not in text


def test_a_validation_loss_that_is_not_finite_is_not_the_best(tmp_path: Path) -> None:
    """Such a state was shown as the best so far."""
    run = write_run(tmp_path / "run", finished=False)
    first, second = '"loss": 0.6, "accuracy": 0.5, "stage": "head"', '"loss": null, "accuracy": 1.0, "stage": "head"'
    rows = (run / "metrics.jsonl").read_text().replace(first, second, 1)
    (run / "metrics.jsonl").write_text(rows)
    text = " ".join(parsed(run_html(read_run_page(run))).texts)
    assert "50.0 % (31.8–68.2)" in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    for name in ("metrics.jsonl", "data.json", "environment.json", "rejected.tsv", "finder-all.json"):
        (folder / name).unlink()
    assert "origin" in parsed(run_html(read_run_page(folder))).ids()


def test_a_stage_whose_rows_are_lost_is_shown_as_the_summary_has_it(tmp_path: Path) -> None:
    """It was left out in silence."""
    folder = write_run(tmp_path / "run")
    whole = parsed(run_html(read_run_page(folder)))
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    steps = {stage["name"]: stage["steps"] for stage in json.loads((folder / "summary.json").read_text())["stages"]}
    for kept in (rows[:1], []):
        (folder / "metrics.jsonl").write_text("".join(kept))
        text = " ".join(parsed(run_html(read_run_page(folder))).texts)
        assert all(name in text for name in steps) and text.count("rows of metrics.jsonl are lost") == len(steps)
    assert "rows of metrics.jsonl are lost" not in " ".join(whole.texts)


def test_the_size_is_bounded_for_many_classes_and_images(tmp_path: Path) -> None:
    names = tuple(f"class number {i}" for i in range(1000))
    view = read_run_page(write_run(tmp_path / "run", names, 100_000))
    jpeg = bytes(6000)
    text = run_html(view, {i: jpeg for image in (*view.top_losses(), *view.least_confident()) for i in [image.index]})
    page = parsed(text)
    assert len(text.encode()) < 2_000_000
    assert page.count("img") == 48 and "of the 20 classes with the most confusions, of 1,000" in " ".join(page.texts)
    (tmp_path / "more").mkdir()
    names = tuple(f"class number {i}" for i in range(3000))
    assert len(run_html(read_run_page(write_run(tmp_path / "more" / "run", names, 9000)))) < 1_500_000


def test_pictures_and_maps_are_inside(tmp_path: Path) -> None:
    view = read_run_page(write_run(tmp_path / "run"))
    first = view.top_losses()[0].index
    page = parsed(run_html(view, {first: b"jpeg"}, [Map(first, (("image", b"a"), ("for <b>", b"\x89PNG")))], "a note"))
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert sources.count(data_uri(b"jpeg")) in (1, 2) and sources[-2:] == [data_uri(b"a"), "data:image/png;base64,iVBORw=="]
    assert "for <b>" in page.texts and "a note" in page.texts


def test_the_split_can_be_chosen(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", split="valid")
    assert read_run_page(folder).split == read_run_page(folder, "valid").split == "valid"
    with pytest.raises(InputError, match="split is 'test'; the run has kept predictions of valid"):
        read_run_page(folder, "test")


def test_names_of_files_that_are_no_text_do_not_break_the_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "rejected.tsv").write_bytes(b"\xff\xfe.png\tno text\n")
    parsed(run_html(read_run_page(folder)).encode("utf-8").decode())
