"""A network from the short list: the one that the images favour, of those whose weights and time can be had, with the reason."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax import InputError, fine_tune
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.types import Dataset
from sgdr_jax.datasets import Synthetic
from sgdr_jax.evaluation.intervals import share_interval
from sgdr_jax.models import ConvNeXtNano, ConvNeXtTiny, EfficientNetLite0, ViTSmall16
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.pretrained import locate
from sgdr_jax.recipes import choose_model, probe, timing

from ..datasets.pictures import picture

TINY, NANO = ConvNeXtTiny("in12k_ft_in1k"), ConvNeXtNano("in12k_ft_in1k")
RIGHT = {"EfficientNetLite0": 0.75, "ConvNeXtNano": 0.875, "ConvNeXtTiny": 0.8125, "ViTSmall16": 0.5}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Rank networks by `RIGHT`, with all weights at hand; returns what was ranked and how many images ranked it."""
    calls = list[list[str]]()

    def ranked(data: Dataset, models: list[ChainModel], ui: NullConsole) -> list[probe.Probed]:
        calls.append([type(model).__name__ for model in models] + [str(data.open().sizes["train"])])
        rows = []
        for model in models:
            correct = np.repeat([1.0, 0.0], [round(16 * RIGHT[type(model).__name__]), 16 - round(16 * RIGHT[type(model).__name__])])
            rows.append(probe.Probed(model, 64, *probe._accuracy(correct), 0.5, 0.0, 0.0, 1.0, 4, (1.0, 2.0), correct))
        best = max(rows, key=lambda row: row.accuracy)
        return sorted((probe._compared(row, best) for row in rows), key=lambda row: -row.accuracy)

    monkeypatch.setattr(probe, "probe", ranked)
    monkeypatch.setattr(locate, "find", lambda model, field="": locate.Weights(Path("x"), "x"))
    assert share_interval(0.75, 16) == probe._accuracy(np.repeat([1.0, 0.0], [12, 4]))[1]
    return calls


def test_the_images_decide(asked: list[list[str]]) -> None:
    picked = choose_model.choose_model(Synthetic(train=64), NullConsole())
    assert picked.model == NANO and asked == [["EfficientNetLite0", "ConvNeXtNano", "ConvNeXtTiny", "ViTSmall16", "64"]]
    told = "classifies 87.5 % of the images correctly, 6.2 ± 6.2 points more than on those of ConvNeXtTiny.in12k_ft_in1k"
    assert picked.reason == f"a linear head on its frozen features {told}"
    assert choose_model.choose_model(Synthetic(classes=2, train=5000), NullConsole()).model == NANO and asked[1][-1] == "2000"


class Said(NullConsole):
    """Keeps lines."""

    def __init__(self) -> None:
        self.lines = list[str]()

    def say(self, text: object) -> None:
        self.lines += [text] if isinstance(text, str) else []


def test_what_the_machine_does_not_train_in_time_is_left_out(asked: list[list[str]]) -> None:
    said = Said()
    epochs = {"EfficientNetLite0": 40.0, "ConvNeXtNano": 4.9, "ConvNeXtTiny": 2.34, "ViTSmall16": 5.0}
    picked = choose_model.choose_model(Synthetic(), said, lambda model: epochs[type(model).__name__])
    assert picked.model == EfficientNetLite0() and asked[0][:-1] == ["EfficientNetLite0", "ViTSmall16"]
    assert said.lines == [
        "left out ConvNeXtNano.in12k_ft_in1k: it gets 4.9 epochs in the time, under 5",
        "left out ConvNeXtTiny.in12k_ft_in1k: it gets 2.3 epochs in the time, under 5",
    ]
    nothing = choose_model.choose_model(Synthetic(), NullConsole(), lambda model: 1.0)
    assert nothing.model == EfficientNetLite0() and len(asked) == 1
    assert nothing.reason == "no network of a short list has weights available and gets 5 epochs in the time"


def test_weights_that_cannot_be_had_are_left_out_before_anything_is_timed(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def find(model: ChainModel) -> locate.Weights:
        if type(model) is ConvNeXtNano:
            raise InputError("weights of timm/x cannot be fetched from the hub (ConnectionError: none); go online once, or put it there")
        return locate.Weights(Path("x"), "x")

    def epochs(model: ChainModel) -> float:
        assert type(model) is not ConvNeXtNano
        return 5.0

    monkeypatch.setattr(locate, "find", find)
    said = Said()
    picked = choose_model.choose_model(Synthetic(), said, epochs)
    why = "weights of timm/x cannot be fetched from the hub (ConnectionError: none); go online once"
    assert picked.model == TINY and said.lines == [f"left out ConvNeXtNano.in12k_ft_in1k: {why}"]
    alone = choose_model.choose_model(Synthetic(), said, models=(ViTSmall16(), NANO))
    assert alone == (ViTSmall16(), "the only network of a short list that has weights available")


def test_candidates_are_ranked_on_the_images_themselves() -> None:
    """Without stand-ins: two networks with the same frozen features are equally good."""
    picked = choose_model.choose_model(
        Synthetic(classes=2, train=60, valid=4, test=4, side=32), NullConsole(), models=(EfficientNetLite0(), EfficientNetLite0(hidden=0))
    )
    assert isinstance(picked.model, EfficientNetLite0) and "0.0 points more" in picked.reason


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for i in range(12):
        picture(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", 10 * i)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_the_file_names_network_weights_and_reason(photos: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    timed = []

    def seconds(experiment, classes):
        timed.append(type(experiment.model).__name__)
        return 0.01

    monkeypatch.setattr(timing, "update_seconds", seconds)
    main(["new", "photos", "--quality", "best", "--minutes", "1", "--no-measure"])
    said = " ".join(capsys.readouterr().out.split())
    assert timed == ["EfficientNetLite0", "ConvNeXtNano", "ConvNeXtTiny", "ViTSmall16", "ConvNeXtNano"]
    assert "timing ConvNeXtNano.in12k_ft_in1k" in said and "87.5 (" in said
    experiment = load_experiment(photos.parent / "photos.py")
    assert experiment.model == NANO
    text = (photos.parent / "photos.py").read_text()
    assert "model=ConvNeXtNano(weights='in12k_ft_in1k'),  # a linear head on its frozen features classifies 87.5 %" in text
    ast.parse(text)
    main(["new", "photos", "--quality", "best", "--no-measure", "--out", "b.py"])
    made = load_experiment(photos.parent / "b.py")
    assert made.model == NANO and made == replace(fine_tune("photos", model="best", similar_to_imagenet=True), name="b")
    main(["new", "photos", "--model", "convnext_tiny.dinov3_lvd1689m", "--no-measure", "--out", "c.py"])
    assert load_experiment(photos.parent / "c.py").model == ConvNeXtTiny("dinov3_lvd1689m") and len(asked) == 3


def test_a_network_is_chosen_or_given(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["new", "photos", "--quality", "best", "--model", "ResNet18"])
    assert stopped.value.code == 2
    assert "--model is 'ResNet18'; --quality best chooses one; leave one of them out" in capsys.readouterr().err
    assert not (photos.parent / "photos.py").exists()
