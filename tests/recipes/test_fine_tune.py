"""Experiments for a folder of images: from Python what `sgdr-jax new` writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgdr_jax import Experiment, InputError, fine_tune
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.datasets import ImageFolder, Synthetic
from sgdr_jax.models import EfficientNetLite0, ResNet18
from sgdr_jax.recipes import auto, domain_similarity

from ..helpers import seeded


class Said(NullConsole):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def say(self, text: object) -> None:
        self.lines.append(text)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, n in (("a", 30), ("b", 12)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "photos" / "a" / "x.tif").touch()
    return tmp_path / "photos"


@seeded
@given(
    st.lists(st.integers(1, 20_000), min_size=2, max_size=9), st.integers(1, 900), st.none() | st.floats(0, 1), st.none() | st.floats(1, 50)
)
def test_the_file_defines_the_experiment_that_is_built(tmp_path_factory, counts, side, confidence, epochs) -> None:
    chosen = auto.choices(np.array(counts), side, confidence, epochs)
    file = tmp_path_factory.mktemp("files") / "photos.py"
    file.write_text(auto.file_text("photos", ImageFolder("my photos"), "ResNet18", chosen))
    assert load_experiment(file) == auto.build("photos", ImageFolder("my photos"), ResNet18(), chosen)


def test_a_folder_gives_the_experiment_that_new_writes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(domain_similarity, "confidence", lambda model, source: 0.2 if isinstance(model, ResNet18) else 0.7)
    main(["new", "photos", "--epochs", "3"])
    said = Said()
    made = fine_tune("photos", epochs=3, ui=said)
    assert made == load_experiment(photos.parent / "photos.py") and made.data == ImageFolder(str(photos))
    assert said.lines[0] == f'images of 2 classes in ImageFolder(root="{photos}"): 34 train, 8 valid' and "1 .tif" in str(said.lines[1])
    assert said.lines[2].row_count == len(auto.choices(np.array([24, 10]), 40, 0.7, 3))
    main(["new", "photos", "--model", "ResNet18", "--out", "other.py"])
    other = load_experiment(photos.parent / "other.py")
    assert replace(fine_tune(photos, model=ResNet18()), name="other") == other and other.model == ResNet18() and other != made


def test_files_cut_short_are_named_before_a_run_refuses_them(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their headers are good. A run of 42 images leaves out none by default, and says so when it has decoded all of them."""
    source = ImageFolder(str(photos)).open()
    names = source.names["train"][:4]
    for name in names:
        (photos / name).write_bytes((photos / name).read_bytes()[:-20])
    said = Said()
    fine_tune(photos, similar_to_imagenet=True, ui=said)
    fix = "repair or remove them, or raise max_bad_share, the share that a run leaves out"
    wanted = f"4 of 34 images looked at cannot be read; {fix} ({', '.join(names[:3])} and 1 more)"
    assert said.lines[-1] == wanted
    main(["new", str(photos), "--out", str(photos.parent / "other.py"), "--no-measure"])
    assert wanted in " ".join(capsys.readouterr().out.split())


def test_what_is_given_is_not_chosen(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_similarity, "confidence", lambda *_: pytest.fail("it is given, and was measured"))
    made = fine_tune(photos, size=96, similar_to_imagenet=False, seed=5, batch_size=8)
    assert {stage.size for stage in made.stages} == {96} and made.stages[-1].lr == 1e-3 and (made.seed, made.batch_size) == (5, 8)
    assert made.model == EfficientNetLite0() and made.epoch_steps == 20


def test_data_and_a_model_get_the_defaults_whatever_the_images() -> None:
    made = fine_tune("rings", Synthetic(), ResNet18(), 96, False, batch_size=32)
    assert isinstance(made, Experiment) and (made.name, made.batch_size, made.evaluate.tta_views) == ("rings", 32, 4)
    assert [stage.size for stage in made.stages] == [96] * 2 and made.stages[-1].lr == 1e-3
    assert made == fine_tune("rings", Synthetic(), ResNet18(), size=96, similar_to_imagenet=False, batch_size=32, epochs=7)


@pytest.mark.parametrize(
    ("arguments", "fields", "words"),
    [
        (("tiny", "photos"), {}, r"data is 'photos'; give a dataset, .* the folder alone as the first argument"),
        (("photos", ResNet18()), {}, r"data is ResNet18\(.*; a network is given as model="),
        (("x", ImageFolder("photos"), "ResNet18"), {}, r"model is 'ResNet18'; use one of sgdr_jax.models"),
        (("x", ImageFolder("photos"), ResNet18), {}, r"model is <class .*; use one of sgdr_jax.models"),
        (("photos",), {"model": "ResNet18"}, r"model is 'ResNet18'; use one of sgdr_jax.models"),
        (("photos",), {"size": "224"}, r"size is '224'; use a number of pixels"),
        (("x", ImageFolder("photos"), ResNet18(), "224"), {}, r"size is '224'; use a number of pixels"),
        (("photos",), {"similar_to_imagenet": "no"}, r"similar_to_imagenet is 'no'; use True, False or None"),
        (("photos",), {"epochs": -1}, r"epochs is -1; use a positive number of epochs, 0 for the head alone, or None"),
        (("x", ImageFolder("photos"), ResNet18()), {"epochs": "3"}, r"epochs is '3'; use a positive number"),
        (("photos",), {"epochs": float("nan")}, r"epochs is nan; use a positive number"),
        ((None,), {}, r"name is None; give a folder of images, or a name with data and model"),
        ((3,), {}, r"name is 3; give a folder"),
        (([],), {}, r"name is \[\]; give a folder"),
        (({},), {}, r"name is \{\}; give a folder"),
        (("photos",), {"bach_size": 3}, r"fine_tune has no argument bach_size; did you mean batch_size\? use the fields of Experiment"),
        (("photos",), {"learning_rate": 3}, r"no argument learning_rate; use the fields .* belong to stages=lesson2\(224, lr=…\)$"),
        (("photos",), {"budget": 20}, r"budget is the most epochs that a plan may have; the length of the last stage is epochs=…"),
        (("photos",), {"lr": 3}, r"no argument lr; use stages=lesson2\(224, lr=…\)$"),
        (("photos",), {"tta_views": 3}, r"no argument tta_views; use evaluate=Eval\(tta_views=…\)$"),
        (("x", ImageFolder("photos"), ResNet18()), {"batch_size": 8.0}, r"batch_size is 8\.0; use a whole number$"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(arguments: tuple[Any, ...], fields: dict[str, Any], words: str) -> None:
    """They were tracebacks, were accepted, or another field was blamed."""
    with pytest.raises(InputError, match=words) as error:
        fine_tune(*arguments, **fields)
    assert "\n" not in str(error.value)


def test_what_cannot_be_measured_is_said_with_the_reason(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table said "not measured" where the weights were out of reach, and the reason was discarded."""
    said, weights = Said(), str(photos.parent / "none.safetensors")
    fine_tune(photos, model=ResNet18(weights=weights), ui=said)
    assert said.lines[-1].startswith("how familiar the images are to the network was not measured: ") and weights in said.lines[-1]
    fine_tune(photos, model=ResNet18(weights=None), ui=said)
    assert not isinstance(said.lines[-1], str)  # all layers of a random network learn, whatever the images
    main(["new", str(photos), "--model", f"ResNet18.{weights}", "--out", str(photos.parent / "other.py")])
    assert "network was not measured: " in " ".join(capsys.readouterr().out.split())


def test_a_folder_that_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder is .*nowhere'; there is no such file or folder"):
        fine_tune(tmp_path / "nowhere")
