"""`sgdr-jax clean`: suspects of a run, the experiment of the decisions, and what is refused."""

import csv
import dataclasses
import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import InputError, Preempted
from sgdr_jax.core.serialization import from_json
from sgdr_jax.core.types import Dataset
from sgdr_jax.data.load import load
from sgdr_jax.datasets import Corrected, Fold, ImageFolder
from sgdr_jax.runs.data_index import data_index, write_index
from sgdr_jax.runs.folder import read
from sgdr_jax.runs.out_of_fold import held_out, out_of_fold
from sgdr_jax.runs.predictor import open_predictor

from ...datasets.pictures import picture
from ...helpers import experiment as small
from ...report.run_folders import Page, check_self_contained


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_suspects_and_the_experiment_without_them(place: Path, run_folder: Path, tmp_path: Path, capsys, fails: Callable[..., str]) -> None:
    before = sorted(path.name for path in (place / "data").rglob("*"))
    photos = str(place / "photos.py")
    main(["clean", str(run_folder), "--experiment", photos])
    suspects = table(run_folder / "clean" / "suspects.csv")
    assert f"{len(suspects)} of 18 labels are suspect" in capsys.readouterr().out
    assert all(row["label"] != row["suggested"] and float(row["margin"]) <= 0 for row in suspects)
    text = (run_folder / "clean" / "suspects.html").read_text("utf-8")
    page = Page(text)
    check_self_contained(text, page)
    assert page.count("img") == len(suspects)

    decisions, out = tmp_path / "decisions.csv", tmp_path / "again.py"
    decisions.write_text("name,decision,suggested\nvalid/red/0.png,drop,\ntrain/red/1.png,relabel,blue\nvalid/red/2.png,keep,\n")
    main(["clean", str(run_folder), "--experiment", photos, "--apply", str(decisions), "--out", str(out)])
    assert "1 labels changed, 1 images left out (30 of 30 train, 17 of 18 valid images remain)" in capsys.readouterr().out
    again, original = load_experiment(out), from_json(read(run_folder).config)
    assert again == dataclasses.replace(
        original, name="photos-clean", data=Corrected(original.data, ("valid/red/0.png",), (("train/red/1.png", "blue"),))
    )
    source = again.data.open()
    assert source.labels["train"][source.names["train"].index("train/red/1.png")] == 0
    assert sorted(path.name for path in (place / "data").rglob("*")) == before
    assert "it is there already" in fails("clean", run_folder, "--experiment", photos, "--apply", decisions, "--out", out)
    decisions.write_text("name,decision,suggested\nvalid/red/0.png,relabel,violet\n")
    words = ("clean", run_folder, "--experiment", photos, "--apply", decisions, "--out", tmp_path / "new.py")
    assert "the classes are blue, green, red" in fails(*words) and not (tmp_path / "new.py").exists()


def test_bad_input_is_one_line(run_folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "--folds is 1" in fails("clean", run_folder, "--folds", "1")
    assert "--out is" in fails("clean", run_folder, "--out", tmp_path / "x.py")
    assert "--folds is 3; it is for the search for suspects" in fails("clean", run_folder, "--apply", tmp_path / "x.csv", "--folds", "3")
    words = ("clean", run_folder, "--apply", tmp_path / "x.csv")
    assert "--network is 'ema'; it is for the search for suspects" in fails(*words, "--network", "ema")
    assert "--tta-views is 0; it is for the search for suspects" in fails(*words, "--tta-views", "0")
    assert "name the experiment file to write" in fails("clean", run_folder, "--apply", tmp_path / "x.csv")


def net_on(data: Dataset, *, refit: bool) -> Any:
    """What `held_out` and `out_of_fold` read of a network before they use it."""
    return SimpleNamespace(experiment=dataclasses.replace(small(), data=data, refit=refit))


def test_what_has_trained_on_all_images_judges_none(tmp_path: Path) -> None:
    for i, name in enumerate("aabb"):
        picture(tmp_path / "in" / name / f"{i}.png", i)
    with pytest.raises(
        InputError, match=r"^the run was refitted, .* no test images; use --folds 5, .* or train anew with refit=False \(--no-refit\)$"
    ):
        held_out(net_on(ImageFolder(str(tmp_path / "in")), refit=True))


@pytest.mark.parametrize(
    ("names", "folds", "message"),
    [
        (
            "aaaabbbbc",
            3,
            "data.folds is 3; without fold 2 no image is left to learn 'c' from; give each another",
        ),
        ("aabb", 5, "data.folds is 5; there are 4 images; use fewer folds"),
    ],
)
def test_folds_that_cannot_be_are_refused_before_the_first_training(
    names: str, folds: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgdr_jax.runs.out_of_fold.run", lambda *_, **__: pytest.fail("a network was trained"))
    for i, name in enumerate(names):
        picture(tmp_path / "in" / name / f"{i}.png", i)
    with pytest.raises(InputError, match=message):
        out_of_fold(net_on(ImageFolder(str(tmp_path / "in")), refit=True), folds, tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: (root / "a" / "0.png").unlink(), r"1 image removed or unreadable now \('a/0.png'\)"),
        (lambda root: (root / "a" / "0.png").rename(root / "b" / "0.png"), r"1 image moved or renamed \('a/0.png → b/0.png'\)"),
        (lambda root: picture(root / "a" / "0.png", 200), r"1 image replaced \('a/0.png'\)"),
        (lambda root: picture(root / "a" / "new.png", 201), r"1 image added \('a/new.png'\)"),
    ],
)
def test_folds_that_began_with_other_images_are_refused(
    change: Callable[[Path], Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks of finished folds judged images that they had trained on: an image less, and others are held out."""
    monkeypatch.setattr("sgdr_jax.runs.out_of_fold.run", lambda *_, **__: pytest.fail("a fold went on"))
    for i, name in enumerate("aaaaabbbbb"):
        picture(tmp_path / "in" / name / f"{i}.png", i)
    net = net_on(ImageFolder(str(tmp_path / "in")), refit=False)
    for fold in range(2):
        own = tmp_path / "folds" / f"fold-{fold + 1}-of-2"
        own.mkdir(parents=True)
        write_index(own, data_index(load(Fold(net.experiment.data, 2, fold).open(), canvas=258)))
    with pytest.raises(pytest.fail.Exception, match="a fold went on"):
        out_of_fold(net, 2, tmp_path / "folds")
    change(tmp_path / "in")
    with pytest.raises(InputError, match=rf"fold-1-of-2 began with: .*{told}.*; remove the folders .*trained anew$"):
        out_of_fold(net, 2, tmp_path / "folds")
    with pytest.raises(pytest.fail.Exception, match="a fold went on"):
        out_of_fold(net, 2, tmp_path / "other")


def test_a_signal_lets_a_fold_save_and_the_command_ends_with_75(
    place: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM killed the training of a fold."""
    folder, asked = shutil.copytree(run_folder, tmp_path / "run"), []

    def stopped(experiment: Any, own: Path, *, prepared: Callable[[Any], Any], **how: Any) -> None:
        context = prepared(experiment)
        asked.append(context.leave())
        os.kill(os.getpid(), signal.SIGTERM)
        asked.append(context.leave())
        raise Preempted("preempted: saved after update 1")

    monkeypatch.setattr("sgdr_jax.runs.out_of_fold.run", stopped)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["clean", str(folder), "--experiment", str(place / "photos.py"), "--folds", "2"])
    out, err = capfd.readouterr()
    assert ended.value.code == 75 and asked == [False, True] and signal.getsignal(signal.SIGTERM) == before
    assert (
        "preempted: saved after update 1; to continue, repeat the command: folds that have finished are kept" in err
        and "to continue" not in out
    )


@pytest.mark.slow
def test_a_fold_that_was_stopped_goes_on(place: Path, run_folder: Path, tmp_path: Path) -> None:
    load_experiment(place / "photos.py")
    net, calls = open_predictor(run_folder), itertools.count()
    whole = out_of_fold(net, 2, tmp_path / "whole")
    with pytest.raises(Preempted):
        out_of_fold(net, 2, tmp_path / "folds", leave=lambda: next(calls) > 30)
    again = out_of_fold(net, 2, tmp_path / "folds")
    np.testing.assert_array_equal(again.probabilities, whole.probabilities)


@pytest.mark.slow
def test_every_image_is_predicted_by_a_network_without_it(place: Path, run_folder: Path, tmp_path: Path) -> None:
    load_experiment(place / "photos.py")
    net = open_predictor(run_folder)
    found = out_of_fold(net, 2, tmp_path / "folds")
    source = net.experiment.data.open()
    assert sorted(found.names) == sorted((*source.names["train"], *source.names["valid"])) and len(found.probabilities) == 48
    for fold in (1, 2):
        trained = read(tmp_path / "folds" / f"fold-{fold}-of-2").data
        assert trained is not None and trained["images"] == {"train": 24, "valid": 24}
    label = {name: y for split in source.names for name, y in zip(source.names[split], source.labels[split], strict=True)}
    assert found.labels.tolist() == [label[name] for name in found.names]
    again = out_of_fold(net, 2, tmp_path / "folds")  # the finished runs are used
    np.testing.assert_array_equal(again.probabilities, found.probabilities)
    assert len(held_out(net).names) == 18
