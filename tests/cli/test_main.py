"""The commands as a person types them: what they print, what they write, and one clear line with exit code 2 for bad input."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax import Experiment
from sgdr_jax.cli import main, parsing
from sgdr_jax.cli.commands.train import TrainCommand
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.core.serialization import config_hash, from_json, to_json

EXPERIMENT = '''
from dataclasses import dataclass
from typing import Any, ClassVar

from sgdr_jax import AdamW, Eval, Experiment, Find, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models.base import ChainModel
from sgdr_jax.schedules import Sgdr


@dataclass(frozen=True)
class Small(ChainModel):
    """A network of the experiment's own."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("second",)
    hidden: int = 0

    imagenet: ClassVar = "package:none"
    classifier: ClassVar = ("fc",)
    features: ClassVar = 8
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.25, 0.25, 0.25)

    @property
    def blocks(self):
        return ("first", "second")

    def modules(self, channels: int) -> dict[str, Any]:
        from jax.nn import relu

        from sgdr_jax.models.blocks import ConvBN

        first = ConvBN(3, channels, 6, eps=1e-5, stride=2, padding=1, activation=relu)
        return {"first": first, "second": ConvBN(3, 6, 8, eps=1e-5, padding=1)}


experiment = Experiment(
    name="photos",
    data=ImageFolder("data"),
    model=Small(),
    augment=side_on(),
    stages=lesson2(size=16, cached=Sgdr(2), head_cycles=1, cycles=1, find=Find(steps=8, lowest=1e-2, highest=1e-2, epochs=8, orders=2)),
    optimizer=AdamW(),
    batch_size=8,
    epoch_steps=6,
    evaluate=Eval(batch_size=8, tta_views=1),
)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an experiment file and photos of three colours in train/ and valid/."""
    root = tmp_path_factory.mktemp("cli")
    (root / "photos.py").write_text(textwrap.dedent(EXPERIMENT))
    rng = np.random.default_rng(0)
    for split, n in (("train", 9), ("valid", 5)):
        for c, name in enumerate(("blue", "green", "red")):
            folder = root / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(n + c):
                pixels = rng.integers(0, 80, (20, 24, 3)) + 150 * np.eye(3, dtype=int)[2 - c]
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


def fails(capsys, *argv: str | Path) -> str:
    """The one line that a refused command prints."""
    with pytest.raises(SystemExit) as exit_:
        main.main([str(word) for word in argv])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.fixture(scope="module")
def run_folder(place):
    main.main(["train", str(place / "photos.py"), "--data.root", str(place / "data"), "--run", str(place / "run")])
    return place / "run"


def test_train_learns_the_colours(run_folder, capsys):
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["valid"]["tta_accuracy"] > 0.6
    assert {"lr.png", "loss.png"} <= {path.name for path in run_folder.iterdir()}  # the command draws the run, the run does not


def test_eval_prints_what_the_run_found(run_folder, capsys):
    summary = json.loads((run_folder / "summary.json").read_text())
    main.main(["eval", str(run_folder), "--split", "valid"])
    assert f"{summary['valid']['tta_accuracy']:.4f}" in capsys.readouterr().out
    main.main(["eval", str(run_folder), "--tta-views", "0"])
    assert "tta" not in capsys.readouterr().out


def test_eval_writes_predictions_and_what_each_view_brings(place, run_folder, capsys):
    main.main(["eval", str(run_folder), "--split", "valid", "--out", str(place / "valid.csv")])
    assert "views of valid" in capsys.readouterr().out
    rows = list(csv.DictReader((place / "valid.csv").read_text().splitlines()))
    summary = json.loads((run_folder / "summary.json").read_text())
    right = sum(row["true"] == row["label"] for row in rows) / len(rows)
    assert right == pytest.approx(summary["valid"]["tta_accuracy"]) == summary["tta"]["valid"][-1]["accuracy"]
    assert {row["disagreement"] for row in rows} <= {"0.000", "0.500", "1.000"}


def copied(run_folder, to, **changes):
    """A copy of a run folder whose summary says otherwise."""
    shutil.copytree(run_folder, to)
    summary = json.loads((to / "summary.json").read_text())
    (to / "summary.json").write_text(json.dumps(summary | changes))
    return to


def test_eval_and_predict_at_the_temperature_of_the_run(place, run_folder, capsys):
    summary = json.loads((run_folder / "summary.json").read_text())
    found = summary["calibration"]["valid"]
    assert found["tta"]["loss"] <= summary["valid"]["tta_loss"] + 1e-6 and found["plain"]["loss"] <= summary["valid"]["loss"] + 1e-6
    main.main(["eval", str(run_folder), "--classes", str(place / "classes.csv")])
    said = " ".join(capsys.readouterr().out.split())
    assert f"at the temperature {found['tta']['temperature']:.3f}: ece {found['tta']['ece']:.4f}" in said
    assert all(word in said for word in ("precision", "taken for", "green"))
    rows = list(csv.DictReader((place / "classes.csv").read_text().splitlines()))
    assert [(row["class"], row["images"]) for row in rows] == [("blue", "5"), ("green", "6"), ("red", "7")]
    warm = copied(run_folder, place / "warm", calibration={"valid": {"tta": {"temperature": 2.0}}})
    photo, out = str(place / "data/valid/red/0.png"), []
    for extra in ([], ["--calibrated"]):
        main.main(["predict", photo, "--run", str(warm), *extra])
        out.append(next(csv.DictReader(capsys.readouterr().out.splitlines())))
    raw, then = (np.array([float(row[c]) for c in ("blue", "green", "red")]) for row in out)
    np.testing.assert_allclose(then, np.sqrt(raw) / np.sqrt(raw).sum(), atol=2e-5)
    old = copied(run_folder, place / "old", calibration={})  # as an earlier version left it
    assert "fitted no temperature" in fails(capsys, "predict", photo, "--run", old, "--calibrated")


def test_show_batch_draws_the_stage(place, capsys):
    main.main(["show-batch", str(place / "photos.py"), "--data.root", str(place / "data"), "--count", "3", "--out", str(place / "b.png")])
    with Image.open(place / "b.png") as picture:
        assert picture.width > 600 and picture.height > 600
    broken = place / "data/train/red/broken.png"
    broken.write_bytes(b"no image")
    main.main(["show-batch", str(place / "photos.py"), "--data.root", str(place / "data"), "--count", "64", "--out", str(place / "b.png")])
    assert "red/broken.png" in capsys.readouterr().out
    broken.unlink()
    assert "'--stage' is 9" in fails(capsys, "show-batch", place / "photos.py", "--stage", "9").replace("--stage", "'--stage'")
    assert "b.txt" in fails(capsys, "show-batch", place / "photos.py", "--out", place / "b.txt")


def test_predict_writes_labels_and_probabilities(place, run_folder, capsys):
    bad = place / "broken.png"
    bad.write_bytes((place / "data/valid/red/0.png").read_bytes()[:60])
    main.main(["predict", str(place / "data/valid/red"), str(bad), "--run", str(run_folder), "--out", str(place / "out.csv")])
    rows = list(csv.DictReader((place / "out.csv").read_text().splitlines()))
    assert len(rows) == 7 and list(rows[0]) == ["path", "label", "probability", "disagreement", "blue", "green", "red"]
    for row in rows:
        p = [float(row[c]) for c in ("blue", "green", "red")]
        assert sum(p) == pytest.approx(1, abs=1e-5) and float(row["probability"]) == pytest.approx(max(p), abs=1e-4)
    assert sum(row["label"] == "red" for row in rows) >= 5
    assert "broken.png" in capsys.readouterr().err


def test_eval_says_when_the_data_have_changed_and_writes_any_file_name(place, run_folder, capsys):
    main.main(["eval", str(run_folder), "--tta-views", "0"])
    assert "the data have changed" not in capsys.readouterr().out
    odd = place / "data/valid/red" / os.fsdecode(b"b\xe4d.png")
    odd.write_bytes((place / "data/valid/red/0.png").read_bytes())
    try:
        main.main(["eval", str(run_folder), "--tta-views", "0", "--out", str(place / "eval.csv")])
    finally:
        odd.unlink()
    assert "the data have changed" in capsys.readouterr().out.replace("\n", " ")
    assert b"b\xe4d.png" in (place / "eval.csv").read_bytes()


def test_a_prediction_does_not_depend_on_its_company(place, run_folder, capsys):
    photo = str(place / "data/valid/red/0.png")
    main.main(["predict", str(place / "data/valid/green/1.png"), photo, photo, "--run", str(run_folder)])
    rows = capsys.readouterr().out.splitlines()
    assert rows[2] == rows[3]


def test_another_process_needs_the_experiment_file_for_its_own_classes(place, run_folder):
    def run(*extra):
        words = (sys.executable, "-m", "sgdr_jax", "eval", str(run_folder), "--tta-views", "0", *extra)
        return subprocess.run(words, capture_output=True, text=True)

    refused, accepted = run(), run("--experiment", str(place / "photos.py"))
    assert refused.returncode == 2 and "--experiment FILE" in refused.stderr
    assert accepted.returncode == 0 and "accuracy" in accepted.stdout


def test_outputs_that_cannot_be_written_are_refused_first(place, run_folder, capsys, tmp_path):
    nowhere = tmp_path / "nowhere" / "x.png"
    assert str(nowhere) in fails(capsys, "find-lr", place / "photos.py", "--out", nowhere)
    assert str(nowhere) in fails(capsys, "predict", place / "data", "--run", run_folder, "--out", nowhere)
    assert str(nowhere) in fails(capsys, "plan", place / "photos.py", "--csv", nowhere)
    assert "--run" in fails(capsys, "train", place / "photos.py", "--resume")
    assert not nowhere.parent.exists()


def test_find_lr_prints_all_rules_and_draws(place, run_folder, capsys):
    picture = place / "curve.png"
    main.main(
        ["find-lr", str(place / "photos.py"), "--data.root", str(place / "data"), "--stage", "2", "--rule", "steep", "--out", str(picture)]
    )
    out = capsys.readouterr().out
    assert all(rule in out for rule in ("combined", "valley", "steep", "minimum", "slide")) and picture.stat().st_size > 5000
    assert re.search(r"steep .* ← chosen", out) and "orders agree within a factor of 3" in out and "early alone" not in out


def test_find_lr_of_each_group_has_a_column_and_a_picture_for_each(place, run_folder, capsys):
    picture = place / "each.png"
    words = ["find-lr", str(place / "photos.py"), "--data.root", str(place / "data"), "--stage", "2", "--each", "--out", str(picture)]
    main.main([*words, "--stages.2.lr", "0.1"])
    out = capsys.readouterr().out
    assert "all has rates of its own, 0.1: train keeps those" in " ".join(out.split())
    for group in ("early", "late", "head"):
        assert f"{group} alone" in out and (place / f"each-{group}.png").is_file()


def test_plan_prints_the_stages_and_writes_every_update(place, capsys):
    file = place / "plan.csv"
    main.main(
        ["plan", str(place / "photos.py"), "--data.root", str(place / "data"), "--csv", str(file), "--stages.2.lr", "1e-3", "1e-2", "0.1"]
    )
    assert "cached head" in capsys.readouterr().out
    first = next(row for row in csv.DictReader(file.read_text().splitlines()) if row["stage"] == "all")
    assert [float(first[f"lr_{g}"]) for g in ("early", "late", "head")] == pytest.approx([1e-3, 1e-2, 0.1])


def test_plan_tells_of_a_refit(place, capsys):
    for word, told in (("--refit", True), ("--no-refit", False)):
        main.main(["plan", str(place / "photos.py"), "--train-size", "100", word])
        assert ("refit: the stages that are kept once more" in capsys.readouterr().out) == told


def test_plan_runs_without_jax(place):
    code = "import sys; from sgdr_jax.cli.main import main; main(sys.argv[1:]); assert not {'jax', 'flax'} & set(sys.modules)"
    argv = (sys.executable, "-c", code, "plan", str(place / "photos.py"), "--train-size", "100")
    subprocess.run(argv, check=True, capture_output=True)


@pytest.mark.parametrize("argv", ["--help", "train FILE --help", "eval --help", "predict --help"])
def test_every_command_helps(place, capsys, argv):
    with pytest.raises(SystemExit) as exit_:
        main.main(argv.replace("FILE", str(place / "photos.py")).split())
    assert exit_.value.code == 0 and "usage" in capsys.readouterr().out


def test_wrong_names_are_met_with_the_nearest(place, capsys):
    file = place / "photos.py"
    assert "--seed" in fails(capsys, "plan", file, "--sede", "1")
    assert "unknown command 'trian'; did you mean train? " in fails(capsys, "trian", file)
    assert "early, late, head" in fails(capsys, "plan", file, "--train-size", "100", "--stages.2.lr", "0.1", "0.2")
    assert "--stages.1.lr is ['foo']; use {None}|FLOAT|" in fails(capsys, "plan", file, "--stages.1.lr", "foo")
    assert "did you mean --stages.0.lr" in fails(capsys, "plan", file, "--stages.9.lr", "1")
    assert "nofile.py" in fails(capsys, "plan", place / "nofile.py")
    assert "experiment" in fails(capsys, "plan", __file__)


def test_a_plain_value_has_a_name_and_a_stray_word_changes_nothing(place, capsys, tmp_path):
    """A field that may hold a number or an object, such as a cycle's length, is set by its name and not by a bare word."""
    file, out = place / "photos.py", tmp_path / "plan.csv"
    for words, wrong in ((["0.5"], "Unrecognized options: 0.5"), (["--refit", "False"], "a switch takes no value: --NAME or --no-NAME")):
        assert wrong in fails(capsys, "plan", file, "--train-size", "100", *words)
    main.main(["plan", str(file), "--train-size", "100", "--stages.2.schedule.cycle-len", "2", "--csv", str(out)])
    rows = list(csv.DictReader(out.read_text().splitlines()))
    main.main(["plan", str(file), "--train-size", "100", "--csv", str(out)])
    usual = list(csv.DictReader(out.read_text().splitlines()))
    last = [sum(row["stage"] == "all" for row in table) for table in (rows, usual)]
    assert last[0] == 2 * last[1] and len(rows) - len(usual) == last[1]


def test_what_is_parsed_is_of_its_own_kind(place):
    given = load_experiment(place / "photos.py")
    read = parsing.parse(TrainCommand, ["--seed", str(given.seed)], "train", TrainCommand(experiment=given)).experiment
    assert read == given and [type(s.schedule) for s in read.stages] == [type(s.schedule) for s in given.stages]
    assert type(read) is Experiment and config_hash(read) == config_hash(given)
    assert [type(s.schedule) for s in from_json(to_json(read.stages))] == [type(s.schedule) for s in given.stages]


def test_bad_data_stop_before_anything_is_written(place, capsys, tmp_path):
    file, run = place / "photos.py", tmp_path / "run"
    empty = tmp_path / "empty"
    empty.mkdir()
    one = tmp_path / "one" / "train" / "cat"
    one.mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(one / "a.png")
    for root in (tmp_path / "missing", empty, tmp_path / "one"):
        assert str(root) in fails(capsys, "train", file, "--data.root", root, "--run", run)
    assert not run.exists()


def test_a_truncated_image_is_named_and_skipped_or_stops_the_run(place, capsys, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(place / "data", root)
    broken = root / "train" / "red" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    error = fails(capsys, "train", place / "photos.py", "--data.root", root, "--run", tmp_path / "run")
    assert "train/red/0.png" in error and "max_bad_share" in error and not (tmp_path / "run").exists()
    main.main(["find-lr", str(place / "photos.py"), "--data.root", str(root), "--max-bad-share", "0.1", "--out", str(tmp_path / "a.png")])
    out = " ".join(capsys.readouterr().out.split())
    assert "train/red/0.png" in out and "1 of 48" in out


def test_a_bad_weight_file_is_refused(place, capsys, tmp_path):
    from safetensors.numpy import save_file

    weights = tmp_path / "w.safetensors"
    save_file({"conv.weight": np.zeros((2, 2), np.float32)}, weights)
    error = fails(
        capsys, "train", Path("experiments/folder.py"), "--data.root", place / "data", "--model.weights", weights, "--run", tmp_path / "run"
    )
    assert "missing" in error and not (tmp_path / "run").exists()


def test_a_run_folder_of_another_config_is_refused(place, run_folder, capsys):
    def state():
        return {p.name: p.stat().st_mtime_ns for p in run_folder.iterdir() if p.name != ".lock"}

    before = state()
    argv = ("train", place / "photos.py", "--data.root", place / "data", "--run", run_folder)
    assert "seed: 0 → 3" in fails(capsys, *argv, "--seed", "3", "--resume")
    assert "--resume" in fails(capsys, *argv)
    assert state() == before


def test_a_folder_that_is_no_run_is_refused(capsys, tmp_path):
    assert "config.json" in fails(capsys, "eval", tmp_path)


def test_models_lists_the_networks_and_the_blocks_of_one(capsys, tmp_path):
    main.main(["models", "ResNet18", "--csv", str(tmp_path / "blocks.csv")])
    out = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "blocks.csv").read_text().splitlines()))
    assert [row["name"] for row in rows][:3] == ["stem", "layer1.block0", "layer1.block1"] and rows[-1]["output"] == "(1000,)"
    assert "layer4.block1" in out and "GMACs" in out
    main.main(["models", "NetLITE", "--size", "64", "--csv", str(tmp_path / "lite.csv")])
    rows = list(csv.DictReader((tmp_path / "lite.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == [f"EfficientNetLite{i}" for i in range(5)]
    assert rows[0]["groups"] == "early: stem–block4, late: block5–top" and rows[0]["size"] == "64"
    assert "did you mean ResNet50" in fails(capsys, "models", "resnet55")
    assert "--size is 8" in fails(capsys, "models", "--size", "8")


def test_weights_that_do_not_exist_are_met_with_the_nearest(place, capsys, tmp_path):
    argv = ("train", Path("experiments/folder.py"), "--data.root", place / "data", "--run", tmp_path / "run")
    assert "did you mean imagenet?" in fails(capsys, *argv, "--model.weights", "imagnet")
    assert "use weights of tf_efficientnet_lite0, or the model ResNet18" in fails(
        capsys, *argv, "--model.weights", "hf-hub:timm/resnet18.a1_in1k"
    )
    assert not (tmp_path / "run").exists()
