"""`sgdr-jax predict`: labels, probabilities, temperatures."""

import csv
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.cli.main import main
from sgdr_jax.runs import predictor

Fails = Callable[..., str]


def copied(run_folder: Path, to: Path, **changes: object) -> Path:
    """Copy a run folder and change its summary."""
    shutil.copytree(run_folder, to)
    summary = json.loads((to / "summary.json").read_text())
    (to / "summary.json").write_text(json.dumps(summary | changes))
    return to


def test_the_temperature_of_the_run_scales_probabilities(
    place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str], fails: Fails
) -> None:
    summary = json.loads((run_folder / "summary.json").read_text())
    found = summary["calibration"]["valid"]
    assert summary["valid"]["accuracy"] == 1 and set(found["plain"].values()) == set(found["tta"].values()) == {None}
    warm = copied(run_folder, place / "warm", calibration={"valid": {kind: {"temperature": 2.0} for kind in ("plain", "tta")}})
    main(["eval", str(warm), "--classes", str(place / "classes.csv")])
    said = " ".join(capsys.readouterr().out.split())
    assert "valid plain at the temperature 2.000: ece" in said and "valid tta at the temperature 2.000: ece" in said
    assert all(word in said for word in ("precision", "taken for", "green"))
    rows = list(csv.DictReader((place / "classes.csv").read_text().splitlines()))
    assert [(row["class"], row["images"]) for row in rows] == [("blue", "5"), ("green", "6"), ("red", "7")]
    photo, out = str(place / "data/valid/red/0.png"), []
    for extra in ([], ["--calibrated"]):
        main(["predict", photo, "--run", str(warm), *extra])
        out.append(next(csv.DictReader(capsys.readouterr().out.splitlines())))
    raw, then = (np.array([float(row[c]) for c in ("blue", "green", "red")]) for row in out)
    np.testing.assert_allclose(then, np.sqrt(raw) / np.sqrt(raw).sum(), atol=2e-5)
    assert "fitted no temperature for 4 views" in fails("predict", photo, "--run", warm, "--calibrated", "--tta-views", "3")
    main(["eval", str(warm), "--tta-views", "3"])
    assert "at the temperature" not in capsys.readouterr().out  # which was fitted for more views
    old = copied(run_folder, place / "old", calibration={})  # as an earlier version left it
    assert "fitted no temperature" in fails("predict", photo, "--run", old, "--calibrated")


@pytest.mark.parametrize("written", [None, 1.0], ids=["none", "as by earlier versions"])
def test_a_run_that_could_fit_no_temperature_says_so(
    place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str], fails: Fails, written: float | None
) -> None:
    nothing = dict.fromkeys(("temperature", "ece", "loss"), written)
    sure = copied(run_folder, place / f"sure-{written}", calibration={"valid": {"plain": nothing, "tta": nothing}})
    photo = place / "data/valid/red/0.png"
    assert "the run fitted no temperature for 2 views; leave it out" in fails("predict", photo, "--run", sure, "--calibrated")
    main(["eval", str(sure)])
    out = capsys.readouterr().out
    assert "no temperature fitted for 2 views" in out and "at the temperature" not in out and "nan" not in out
    main(["report", str(sure)])
    page = (sure / "report.html").read_text()
    assert "no temperature fitted" in page or written
    main(["export", str(sure), "--to", "stablehlo"])
    assert "calibrated" not in (sure / "export/stablehlo/README.md").read_text()


def test_predict_writes_labels_and_probabilities(place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = place / "broken.png"
    bad.write_bytes((place / "data/valid/red/0.png").read_bytes()[:60])
    main(["predict", str(place / "data/valid/red"), str(bad), "--run", str(run_folder), "--out", str(place / "out.csv")])
    rows = list(csv.DictReader((place / "out.csv").read_text().splitlines()))
    assert len(rows) == 7 and list(rows[0]) == ["path", "label", "probability", "disagreement", "blue", "green", "red"]
    for row in rows:
        p = [float(row[c]) for c in ("blue", "green", "red")]
        assert sum(p) == pytest.approx(1, abs=1e-5) and float(row["probability"]) == pytest.approx(max(p), abs=1e-4)
    assert sum(row["label"] == "red" for row in rows) >= 5
    assert "broken.png" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_pipe_and_a_file_get_the_same_bytes(encoding: str, place: Path, run_folder: Path, tmp_path: Path, capfdbinary) -> None:
    """A pipe got ? for each letter of a name that the terminal's encoding lacks."""
    photo = (place / "data/valid/red/0.png").read_bytes()
    names = [str(tmp_path / name) for name in ("rosé.png", os.fsdecode(b"b\xe4d.png"))]
    for name in names:
        Path(name).write_bytes(photo)
    words = ["predict", *names, "--run", str(run_folder)]
    main([*words, "--out", str(tmp_path / "out.csv")])
    sys.stdout.reconfigure(encoding=encoding)  # pyright: ignore[reportAttributeAccessIssue]
    capfdbinary.readouterr()
    main(words)
    assert capfdbinary.readouterr().out == (tmp_path / "out.csv").read_bytes()


def test_a_prediction_does_not_depend_on_its_company(place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(place / "data/valid/red/0.png")
    main(["predict", str(place / "data/valid/green/1.png"), photo, photo, "--run", str(run_folder)])
    rows = capsys.readouterr().out.splitlines()
    assert rows[2] == rows[3]


@pytest.mark.parametrize("views", ["0", "3"])
def test_an_image_is_predicted_as_it_was_evaluated(place: Path, run_folder: Path, views: str) -> None:
    """The random views of a split were drawn by the places of its images, so that the two differed."""
    main(["eval", str(run_folder), "--split", "valid", "--tta-views", views, "--out", str(place / "evaluated.csv")])
    evaluated = list(csv.DictReader((place / "evaluated.csv").read_text().splitlines()))
    paths = [str(path) for path in sorted((place / "data/valid").rglob("*.png"), reverse=True)]
    main(["predict", *paths, "--run", str(run_folder), "--tta-views", views, "--out", str(place / "predicted.csv")])
    predicted = {row.pop("path"): row for row in csv.DictReader((place / "predicted.csv").read_text().splitlines())}
    assert len(evaluated) == len(predicted) == 18
    for row in evaluated:
        (one,) = (found for path, found in predicted.items() if path.endswith(row["name"]))
        assert ("disagreement" in row) == (views != "0") and {c: row[c] for c in row if c not in ("name", "true")} == one


def test_classes_that_bear_the_name_of_a_column_have_columns_of_their_own(
    place: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader by name got a probability in place of the label, or of the path."""
    real, names = predictor.evaluate_split, ["label", "name", "class label"]
    net = predictor.open_predictor(run_folder)
    monkeypatch.setattr(predictor, "evaluate_split", lambda _, *rest: real(net, *rest))
    for classes in (names, ["path", "true", "disagreement"], ["probability", "class probability", "class class probability"]):
        monkeypatch.setattr(predictor, "open_predictor", lambda *_, names=classes: net._replace(classes=tuple(names)))
        for words in (["predict", str(place / "data/valid/red/0.png"), "--run", str(run_folder)], ["eval", str(run_folder)]):
            main([*words, "--out", str(place / "named.csv")])
            header, *rows = csv.reader((place / "named.csv").read_text().splitlines())
            assert len(set(header)) == len(header) and len(header) == len(rows[0])
            row = dict(zip(header, rows[0], strict=True))
            assert row["label"] in classes and float(row["probability"]) == pytest.approx(max(map(float, rows[0][-3:])), abs=1e-4)
            assert all(name in header[-3:] or f"class {name}" in header[-3:] or f"class class {name}" in header[-3:] for name in classes)


def test_several_labels_can_be_told_apart_whatever_their_names(run_folder: Path) -> None:
    """ "sea gull" and "sea", "gull" were one text."""
    names = ("sea", "gull", "sea gull")
    net = predictor.open_predictor(run_folder)._replace(classes=names, multi_label=True)
    shown = {net.label(np.array(row), 1) for row in itertools.product((0.0, 1.0), repeat=3)}
    assert len(shown) == 8 and {"", "sea gull", '"sea gull"', 'gull "sea gull"'} < shown
    assert all(net.true_label(np.array(row)) == net.label(np.array(row), 1) for row in itertools.product((0.0, 1.0), repeat=3))
    quoted = net._replace(classes=('a "b"', "c", "d"))
    for row in itertools.product((0.0, 1.0), repeat=3):
        wanted = [name for name, one in zip(quoted.classes, row, strict=True) if one]
        assert next(csv.reader([quoted.label(np.array(row), 1)], delimiter=" "), []) == wanted
