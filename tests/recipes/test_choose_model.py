"""A network from the short list: by likeness, number of images, machine, time and what weights can be had, with the reason."""

import ast
from pathlib import Path

import pytest

from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.models import ConvNeXtNano, ConvNeXtTiny, EfficientNetLite0, ViTSmall16
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.pretrained import locate
from sgdr_jax.recipes import timing
from sgdr_jax.recipes.choose_model import choose_model

from ..datasets.pictures import picture

TINY, NANO = ConvNeXtTiny("in12k_ft_in1k"), ConvNeXtNano("in12k_ft_in1k")


def here(model: ChainModel) -> str:
    return ""


@pytest.mark.parametrize(
    ("images", "confidence", "model", "reason"),
    [
        (5000, 0.5, TINY, "0.50: like ImageNet, where ConvNeXt was best"),
        (5000, None, TINY, "likeness to ImageNet not measured"),
        (5000, 0.2, ViTSmall16(), "unlike ImageNet, where small ViTs were best"),
        (400, 0.2, TINY, "unlike ImageNet, but 400 images are few for attention"),
    ],
)
def test_with_an_accelerator_the_images_decide(images: int, confidence: float | None, model: ChainModel, reason: str) -> None:
    picked = choose_model(images, confidence, True, here)
    assert picked.model == model and picked.reason.endswith(reason if confidence else "ConvNeXt was best on images like it")
    assert reason in picked.reason


def test_a_cpu_gets_the_smallest_network_unless_there_is_time() -> None:
    picked = choose_model(5000, 0.5, False, here)
    assert picked.model == EfficientNetLite0() and "a CPU without --minutes gets the fastest" in picked.reason
    picked = choose_model(5000, 0.5, False, here, lambda model: {"ConvNeXtTiny": 2.34, "ConvNeXtNano": 6.0}[type(model).__name__])
    assert picked.model == NANO and "ConvNeXtTiny gets 2.3 epochs in the time, under 5" in picked.reason
    assert choose_model(5000, 0.5, False, here, lambda _: 1.0).model == EfficientNetLite0()


def test_weights_that_cannot_be_had_are_passed_over_before_anything_is_timed() -> None:
    def missing(model: ChainModel) -> str:
        return "offline" if type(model) is ConvNeXtTiny else ""

    def epochs(model: ChainModel) -> float:
        assert type(model) is not ConvNeXtTiny
        return 5.0

    picked = choose_model(5000, 0.5, True, missing, epochs)
    assert picked.model == NANO and picked.reason.endswith("; ConvNeXtTiny: offline")


def test_the_file_names_network_weights_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for i in range(12):
        picture(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", 10 * i)
    monkeypatch.chdir(tmp_path)
    asked = []

    def find(model: ChainModel) -> locate.Weights:
        asked.append(type(model))
        if type(model) is ConvNeXtTiny:
            raise InputError("weights of timm/x cannot be fetched from the hub (ConnectionError: none); go online once, or put it there")
        return locate.Weights(Path("x"), "x")

    monkeypatch.setattr(locate, "find", find)
    monkeypatch.setattr(timing, "update_seconds", lambda experiment, classes: 0.01)
    main(["new", "photos", "--model", "auto", "--minutes", "1", "--no-measure"])
    said = " ".join(capsys.readouterr().out.split())
    assert asked == [ConvNeXtTiny, ConvNeXtNano] and "timing ConvNeXtNano.in12k_ft_in1k" in said
    experiment = load_experiment(tmp_path / "photos.py")
    assert experiment.model == NANO
    text = (tmp_path / "photos.py").read_text()
    assert "model=ConvNeXtNano(weights='in12k_ft_in1k'),  # likeness" in text and "(ConnectionError: none)" in text
    ast.parse(text)
    main(["new", "photos", "--model", "auto", "--no-measure", "--out", "b.py"])
    assert load_experiment(tmp_path / "b.py").model == EfficientNetLite0()
    main(["new", "photos", "--model", "convnext_tiny.dinov3_lvd1689m", "--no-measure", "--out", "c.py"])
    assert load_experiment(tmp_path / "c.py").model == ConvNeXtTiny("dinov3_lvd1689m")
