"""Ranking networks by regression on their features: what is held out stays unseen, the table is in order, features are reused."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from rich import console

from sgdr_jax import Experiment, Stage
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.solve import Solve
from sgdr_jax.datasets import Arrays, Synthetic
from sgdr_jax.evaluation.intervals import share_interval
from sgdr_jax.models import EfficientNetLite0
from sgdr_jax.models.base import ChainModel, model_named
from sgdr_jax.recipes import probe
from sgdr_jax.train.context import RunContext, prepare

from ..datasets.pictures import picture
from ..helpers import Tiny


@pytest.fixture(scope="module")
def context() -> RunContext:
    stage = Stage("probe", 16, "head", augment=False, precompute=True, solve=Solve())
    return prepare(Experiment("probe", Synthetic(classes=2, train=240, valid=4, test=4, side=16), Tiny(), (stage,)))


def test_an_image_is_judged_by_a_head_that_has_not_seen_it(context: RunContext) -> None:
    labels, rng = context.data.labels["train"], np.random.default_rng(0)
    noise = rng.normal(size=(240, 200)).astype(np.float32)  # a head that has seen them tells all 240 apart
    logits, judged, _ = probe.held_out_logits(context, noise, Solve(1e-5))
    assert judged.all() and abs((logits.argmax(1) == labels).mean() - 0.5) < 0.11
    noise[:, :20] += 4 * labels[:, None]
    logits, _, _ = probe.held_out_logits(context, noise, Solve())
    assert (logits.argmax(1) == labels).mean() > 0.97


def test_rows_are_compared_with_the_best_image_by_image() -> None:
    def row(correct: list[float]) -> probe.Probed:
        values = np.array(correct)
        return probe.Probed(Tiny(), 16, *probe._accuracy(values), 0.5, 0.0, 0.0, 1.0, 4, (1.0, 2.0), values)

    best, other = row([1, 1, 1, 0, np.nan]), row([1, 0, 1, 0, np.nan])
    assert best.accuracy == 0.75 and best.interval == share_interval(0.75, 4)
    compared = probe._compared(other, best)
    assert compared.behind == 0.25 and compared.behind_error == pytest.approx(0.25)  # √(3/16 · 4/3 / 4)
    assert (probe._compared(best, best).behind, probe._compared(best, best).behind_error) == (0, 0)


def test_of_networks_alike_in_accuracy_the_first_is_the_one_that_others_are_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others had been compared with another of them, so that the difference to the second had an error of 0."""
    first = probe.Probed(Tiny(), 16, 0.5, share_interval(0.5, 8), 0.5, 0.0, 0.0, 1.0, 4, (1.0, 2.0), np.array([0.0, 1] * 4))
    worse = first._replace(loss=0.7, correct=1 - first.correct)
    found = iter([worse, first, worse])
    monkeypatch.setattr(probe, "_probed", lambda *_: next(found))
    model = EfficientNetLite0(weights=__file__)
    rows = probe.probe(Synthetic(classes=2, train=8, valid=4, side=16), [model] * 3, NullConsole(), size=16)
    assert [row.loss for row in rows] == [0.5, 0.7, 0.7]
    assert [row.behind for row in rows] == [0, 0, 0] and rows[0].behind_error == 0
    assert all(row.behind_error == pytest.approx(float(np.sqrt(8 / 7 / 8))) for row in rows[1:])


def test_all_right_of_few_images_is_shown_with_what_it_leaves_open(capsys: pytest.CaptureFixture[str]) -> None:
    values = np.array([1.0] * 16 + [np.nan])
    row = probe.Probed(Tiny(), 16, *probe._accuracy(values), 0.5, 0.0, 0.0, 1.0, 4, (1.0, 2.0), values)
    console.Console().print(probe.table([row]))
    assert "100.0 (80.6–100.0)" in capsys.readouterr().out
    head, figures = probe.csv_rows([row])
    assert dict(zip(head, figures, strict=True)).items() >= {"accuracy": 1.0, "low": share_interval(1.0, 16).low, "high": 1.0}.items()


def test_images_that_could_not_be_judged_are_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class with a single image has none to learn from while that one is held out."""
    for i, name in enumerate("aaaabbbbc"):
        picture(tmp_path / "in/train" / name / f"{i}.png", 10 * i)
        picture(tmp_path / "in/valid" / name / f"{i}.png", 90 + i)
    main(["probe", str(tmp_path / "in"), "--models", "EfficientNetLite0", "--size", "32"])
    assert "accuracy of 8 of 9 images" in " ".join(capsys.readouterr().out.split())


def test_validation_images_are_used_where_no_class_has_two_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All features were computed, and then none of the images could be held out."""
    for i, name in enumerate("abcd"):
        for j, split in enumerate(("train", "valid")):
            picture(tmp_path / "in" / split / name / f"{j}.png", 60 * i + j)
    main(["probe", str(tmp_path / "in"), "--models", "EfficientNetLite0", "--size", "32"])
    out = " ".join(capsys.readouterr().out.split())
    assert "no class has two training images: the validation images are used too" in out and "accuracy of 8 of 8 images" in out


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_none_can_judge_is_refused_before_features_are_computed(multi_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "prepare", None)
    labels = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32) if multi_label else np.arange(3)
    data = Arrays.of((np.zeros((3, 8, 8, 3), np.uint8), labels), (np.zeros((3, 8, 8, 3), np.uint8), labels))
    with pytest.raises(InputError, match="images is 3; no class has two images, so none can be held out; give more"):
        probe.probe(data, [EfficientNetLite0()], NullConsole())


def test_the_fields_of_the_set_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors named data.pattern and data.multi_label as remedies, which the command refused."""
    for i in range(8):
        picture(tmp_path / "in" / f"{'ab'[i % 2]}_{i}.png", 10 * i)
    words = ["--models", "EfficientNetLite0", "--size", "32"]
    main(["probe", str(tmp_path / "in"), *words, "--data.pattern", r"^(\w)_", "--data.valid-fraction", "0.25"])
    assert "accuracy of 6 of 6 images" in " ".join(capsys.readouterr().out.split())
    rows = "".join(f"{'ab'[i % 2]}_{i}.png,{'red green' if i % 2 else 'blue'}\n" for i in range(8))
    (tmp_path / "in/labels.csv").write_text(f"image,tags\n{rows}")
    for several in ("True", "False"):
        main(["probe", str(tmp_path / "in"), *words, "--data.multi-label", several])
        assert "best: EfficientNetLite0" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit, match="0"):
        main(["probe", str(tmp_path / "in"), "--help"])
    assert "--data.multi-label" in capsys.readouterr().out


def test_a_folder_is_probed_and_its_features_are_reused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(8):
        picture(tmp_path / "in/train" / "ab"[i % 2] / f"{i}.png", 10 * i)
        picture(tmp_path / "in/valid" / "ab"[i % 2] / f"{i}.png", 90 + i)
    words = ["probe", str(tmp_path / "in"), "--models", "tf_efficientnet_lite0", "--size", "32", "--csv", str(tmp_path / "out.csv")]
    main(words)
    first = capsys.readouterr().out
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert row["network"] == "EfficientNetLite0" and row["features"] == "2560" and row["size"] == "32" and row["behind"] == "0.0"
    assert "activations of train" in first and "found in the cache" not in first and "8 of 8 images" in first
    main(words)
    assert "activations of train found in the cache" in capsys.readouterr().out
    assert next(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))["accuracy"] == row["accuracy"]


def test_a_file_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is trained, and there is no option to accept it with."""
    for i in range(9):
        picture(tmp_path / "in/train" / "ab"[i % 2] / f"{i}.png", 10 * i)
        picture(tmp_path / "in/valid" / "ab"[i % 2] / f"{i}.png", 90 + i)
    cut = tmp_path / "in/train/a/8.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    main(["probe", str(tmp_path / "in"), "--models", "EfficientNetLite0", "--size", "32"])
    out = " ".join(capsys.readouterr().out.split())
    assert "left out train/a/8.png: " in out and "accuracy of 8 of 9 images" in out


def test_the_short_list_is_probed_as_far_as_its_weights_can_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sgdr_jax.models.pretrained import locate

    def find(model: ChainModel, option: str = "") -> locate.Weights:
        if model != EfficientNetLite0():
            raise InputError(f"weights of {type(model).__name__} cannot be fetched; go online once")
        return locate.Weights(Path("x"), "x")

    monkeypatch.setattr(locate, "find", find)
    probed: list[ChainModel] = []
    monkeypatch.setattr(probe, "probe", lambda data, models, ui, size: probed.extend(models) or sys.exit(0))
    for i, place in enumerate(("train/a", "train/b", "valid/a", "valid/b")):
        picture(tmp_path / "in" / place / "0.png", 9 * i)
    with pytest.raises(SystemExit, match="0"):
        main(["probe", str(tmp_path / "in")])
    assert probed == [EfficientNetLite0()]
    assert "left out ViTSmall16: weights of ViTSmall16 cannot be fetched" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "efficientnet"], "--models is 'efficientnet'; did you mean EfficientNet"),
        (["--models", "ConvNeXtTiny.fcmae_ft_in1k"], "--models is 'ConvNeXtTiny.fcmae_ft_in1k'; it is a tag of ConvNeXtV2Atto"),
        (["--models", "EfficientNetLite0", "EfficientNetLite0"], "name each network once"),
        (["--size", "4"], "--size is 4"),
        (["--images", "-1"], "--images is -1"),
    ],
)
def test_wrong_options_are_refused(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["probe", str(tmp_path), *words])
    assert message in capsys.readouterr().err


def test_weights_that_cannot_be_fetched_can_be_named_as_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command has no field model.weights."""
    import huggingface_hub.errors  # noqa: F401  # which a download imports

    from sgdr_jax.models.pretrained import locate

    def fetch(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "_fetch", fetch)
    for i, place in enumerate(("train/a", "train/b", "valid/a", "valid/b")):
        picture(tmp_path / "in" / place / "0.png", 9 * i)
    with pytest.raises(SystemExit, match="2"):
        main(["probe", "in", "--models", "ResNet34"])
    error = capsys.readouterr().err
    name = "ResNet34.weights/resnet34.a1_in1k/model.safetensors"
    assert error.endswith(f"into weights/resnet34.a1_in1k, and name {name} in --models\n") and "model.weights" not in error
    Path("weights/resnet34.a1_in1k").mkdir(parents=True)
    (tmp_path / name.removeprefix("ResNet34.")).touch()
    with pytest.raises(InputError, match=f"^--models is '{name}x'; did you mean {name.removeprefix('ResNet34.')}"):
        locate.find(model_named(name + "x", "--models"), "--models")
    assert locate.find(model_named(name, "--models"), "--models").path == Path(name.removeprefix("ResNet34."))


def test_random_weights_are_not_ranked() -> None:
    with pytest.raises(InputError, match="random features rank nothing"):
        probe.probe(Synthetic(), [EfficientNetLite0(weights=None)], NullConsole())
