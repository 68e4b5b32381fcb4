"""`sgdr-jax train`: figures, and what is rejected before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.cli.main import main

from ...runs.trackers.test_tracking import tensorboard

Fails = Callable[..., str]


def test_train_learns_the_colours(run_folder: Path) -> None:
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["valid"]["tta_accuracy"] > 0.6
    assert {"lr.png", "loss.png"} <= {path.name for path in run_folder.iterdir()}  # the command draws the run, the run does not


def test_trackers_receive_every_row_and_the_pictures(run_folder: Path) -> None:
    found, images = tensorboard(run_folder)
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert [step for step, _ in found["train/loss"]] == list(range(len(losses)))  # all stages, one after the other
    np.testing.assert_allclose([loss for _, loss in found["train/loss"]], losses, rtol=1e-6)
    accuracies = [row["accuracy"] for row in rows if row["kind"] == "eval"]
    np.testing.assert_allclose([x for _, x in found["valid/accuracy"]], accuracies, rtol=1e-6)
    assert {name: (run_folder / f"{name}.png").read_bytes() for name in images} == images and {"loss", "lr"} < set(images)


def test_a_run_folder_is_announced_when_it_exists(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = place / "photos.py", tmp_path / "run"
    for words in (["--data.root", str(tmp_path / "missing")], ["--model.weights", str(tmp_path / "missing.pth")]):
        with pytest.raises(SystemExit):
            main(["train", str(file), "--run", str(run), *words])
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ") and "run folder" not in printed.out and not run.exists()


def test_bad_data_stop_before_anything_is_written(place: Path, tmp_path: Path, fails: Fails) -> None:
    file, run = place / "photos.py", tmp_path / "run"
    empty = tmp_path / "empty"
    empty.mkdir()
    one = tmp_path / "one" / "train" / "cat"
    one.mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(one / "a.png")
    for root in (tmp_path / "missing", empty, tmp_path / "one"):
        assert str(root) in fails("train", file, "--data.root", root, "--run", run)
    assert not run.exists()


def test_a_truncated_image_is_skipped_or_stops_the_run(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, fails: Fails
) -> None:
    root = tmp_path / "data"
    shutil.copytree(place / "data", root)
    broken = root / "train" / "red" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    error = fails("train", place / "photos.py", "--data.root", root, "--run", tmp_path / "run")
    assert "train/red/0.png" in error and "max_bad_share" in error and not (tmp_path / "run").exists()
    (root / "train" / "red" / "0.tif").write_bytes(b"")
    main(["find-lr", str(place / "photos.py"), "--data.root", str(root), "--max-bad-share", "0.1", "--out", str(tmp_path / "a.png")])
    out = " ".join(capsys.readouterr().out.split())
    assert "train/red/0.png" in out and "1 of 48" in out
    assert out.count("not part of the set: 1 file (1 .tif)") == 1


def test_a_bad_weight_file_is_rejected(place: Path, tmp_path: Path, fails: Fails) -> None:
    from safetensors.numpy import save_file

    weights = tmp_path / "w.safetensors"
    save_file({"conv.weight": np.zeros((2, 2), np.float32)}, weights)
    error = fails(
        "train", Path("experiments/folder.py"), "--data.root", place / "data", "--model.weights", weights, "--run", tmp_path / "run"
    )
    assert "missing" in error and not (tmp_path / "run").exists()


def test_a_run_folder_of_another_config_is_refused(place: Path, run_folder: Path, fails: Fails) -> None:
    def state():
        return {p.name: p.stat().st_mtime_ns for p in run_folder.iterdir() if p.name != ".lock"}

    before = state()
    argv = ("train", place / "photos.py", "--data.root", place / "data", "--run", run_folder)
    assert "seed: 0 → 3" in fails(*argv, "--seed", "3", "--resume")
    assert "--resume" in fails(*argv)
    assert state() == before


def test_a_rule_for_rates_needs_what_it_is_for(place: Path, tmp_path: Path, fails: Fails) -> None:
    argv = ("train", place / "photos.py", "--data.root", place / "data", "--run", tmp_path / "run")
    assert "--lr-rule is 'sqrt'; it is for --per-device; leave it out, or give that too" in fails(*argv, "--lr-rule", "sqrt")


def test_weights_that_do_not_exist_are_met_with_the_nearest(place: Path, tmp_path: Path, fails: Fails) -> None:
    argv = ("train", Path("experiments/folder.py"), "--data.root", place / "data", "--run", tmp_path / "run")
    assert "did you mean imagenet?" in fails(*argv, "--model.weights", "imagnet")
    assert "use weights of tf_efficientnet_lite0, or the model ResNet18" in fails(*argv, "--model.weights", "hf-hub:timm/resnet18.a1_in1k")
    assert not (tmp_path / "run").exists()


def test_names_of_columns_are_shown_as_they_are(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(place / "data/train", tmp_path / "train")
    images = sorted(path.relative_to(tmp_path / "train") for path in tmp_path.glob("train/*/*.png"))
    rows = "".join(f"{image},{image.parent},1,2\n" for image in images)
    (tmp_path / "labels.csv").write_text(f"id,label,[/red],:cat:\n{rows}")
    file = tmp_path / "photos.py"
    text = (place / "photos.py").read_text().replace("ImageFolder", "CsvLabels").replace('"data"', repr(str(tmp_path)))
    file.write_text(text)
    main(["find-lr", str(file), "--out", str(tmp_path / "a.png")])
    said = " ".join(capsys.readouterr().out.split())
    assert "labels.csv: labels are read from the column 'label'; not used: the columns [/red], :cat:" in said
