"""What is chosen for a folder of images, and the file that it is written into."""

import ast
import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgdr_jax import Experiment, Stage, fine_tune, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.cli import main
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.core.plan import plan
from sgdr_jax.datasets import Arrays, ImageFolder, TrainAndValid
from sgdr_jax.models import ConvNeXtTiny, DINOv2ViTSmall14, EfficientNetLite0, ResNet18
from sgdr_jax.recipes import domain_similarity, timing
from sgdr_jax.recipes.auto import (
    FAMILIAR,
    FEW,
    FIRST_SHARE,
    MANY,
    REFIT,
    SMALLEST,
    STRANGE,
    STRANGE_LR,
    UPDATES,
    NetworkTraits,
    build,
    choices,
    file_text,
)
from sgdr_jax.recipes.measured import ImageFacts, measure
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train.context import prepare

from ..helpers import Tiny, seeded


def values(*args, **named):
    return {choice.name: choice.value for choice in choices(*args, **named)}


@seeded
@given(
    st.lists(st.integers(1, 100_000), min_size=2, max_size=50),
    st.integers(1, 5000),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0.1, 100),
    st.sampled_from([(160, 1), (224, 16), (300, 1), (518, 14), (256, 14), (224, 64)]),
)
def test_every_choice_is_within_its_bounds_and_has_a_reason(counts, side, confidence, epochs, network) -> None:
    trained_at, patch = network
    made = choices(np.array(counts), side, confidence, epochs, NetworkTraits(trained_at, patch=patch))
    assert all(choice.reason for choice in made) and len({choice.name for choice in made}) == len(made)
    found, n = {choice.name: choice.value for choice in made}, sum(counts)
    assert SMALLEST <= found["size"] <= trained_at and (found["size"] >= side or found["size"] > trained_at - patch)
    assert found["size"] < side + max(32, patch) or found["size"] < SMALLEST + patch
    assert found["size"] % patch == 0
    assert found["batch_size"] == (64 if n >= MANY else 32)
    assert (found["epoch_steps"] == UPDATES) == (n / found["batch_size"] <= UPDATES - 1)
    assert 1 <= found["views"] <= 4 and (found["views"] == 1 or found["views"] * n <= 10_000)
    assert found["refit"] == (n < REFIT)
    assert found.get("first_epoch_share") == (FIRST_SHARE if found["epoch_steps"] else None)
    assert (found["balance"] > 0) == (max(counts) >= 2 * min(counts))
    strange = confidence is not None and confidence < STRANGE and n < FEW
    similar = confidence is None or confidence >= FAMILIAR or n < FEW
    assert (found.get("lr"), found.get("similar_to_imagenet")) == ((STRANGE_LR, None) if strange else (None, similar))
    assert found["bn"] == ("frozen" if n < FEW else "train")
    assert found.get("cycle_len") == (None if epochs is None else round(epochs, 3))
    assert found.get("train") == (1 if found["epoch_steps"] and confidence is not None and confidence < FAMILIAR else None)


def test_the_first_layer_group_of_a_small_set_stays_unless_it_has_photographs_or_nothing_would_be_left() -> None:
    counts = np.array([40, 40])
    assert "train=1,  # 80 images that are not photographs" in file_text("a", ImageFolder("a"), "ResNet18", choices(counts, 100, 0.3))
    for without in ({"whole": True}, {"network": NetworkTraits(groups=2)}, {"network": NetworkTraits(pretrained=False)}):
        assert "train" not in values(counts, 100, 0.3, **without)
    assert "train" not in values(counts, 100, 0.45) and "train" not in values(counts, 100, None)
    facts = ImageFacts(counts, 100, 0.3, (), 10)
    assert "train" in {choice.name for choice in facts.of(ResNet18()).choices()}
    assert "train" not in {choice.name for choice in facts.of(ResNet18(cuts=())).choices()}


@pytest.mark.parametrize("epochs", [None, 0])
def test_a_class_without_training_images_is_no_rare_one(epochs: float | None) -> None:
    """One that only validation images have turned oversampling on for classes of one size."""

    def balance(*counts: int) -> tuple[object, str]:
        (found,) = (c for c in choices(np.array(counts), 224, 0.7, epochs) if c.name == "balance")
        return found.value, found.reason

    assert balance(60, 0, 50) == balance(60, 50) == (0.0, "the classes have 50 to 60 images")
    assert balance(60, 0, 20)[0] == 0.5


def test_images_with_several_classes_are_counted_once() -> None:
    """The labels were counted: 3,646 "images" of 559."""
    images, labels = np.zeros((40, 8, 8), np.uint8), np.ones((40, 5), np.float32)
    labels[0, 1:] = 0
    source = Arrays.of((images, labels), (images[:4], labels[:4]), multi_label=True).open()
    made = measure(source, EfficientNetLite0(), familiar=False).choices()
    alike = choices(np.array([20, 20]), 8, None)
    for name in ("batch_size", "epoch_steps", "views", "bn", "refit"):
        assert [choice for choice in made if choice.name == name] == [choice for choice in alike if choice.name == name]


def test_without_validation_images_nothing_is_chosen_that_needs_them() -> None:
    """`refit` was, and the run refused it."""
    arrays = Arrays.of((np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2), (np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2))
    made = {}
    for data in (arrays, TrainAndValid(arrays)):
        chosen = measure(data.open(), EfficientNetLite0(), familiar=False).choices()
        made[type(data).__name__] = {choice.name for choice in chosen}
        experiment = build("x", data, EfficientNetLite0(weights=None), chosen)
        prepare(replace(experiment, model=Tiny()))
        assert experiment.refit == (data is arrays)
    assert made["Arrays"] - made["TrainAndValid"] == {"leeway", "refit", "first_epoch_share"} and made["TrainAndValid"] < made["Arrays"]


@pytest.mark.parametrize("count", [20, 2000, 30_000])
def test_a_random_network_trains_every_layer_and_has_no_statistics_worth_keeping(count) -> None:
    """It has none of ImageNet's classes either: its confidence, 0.99 on any image, was taken for that of a classifier."""
    made = {choice.name: choice for choice in choices(np.array([count, count]), 100, None, network=NetworkTraits(pretrained=False))}
    for name, value in (("similar_to_imagenet", False), ("bn", "train")):
        assert made[name].value == value and "the network is random" in made[name].reason
    facts = ImageFacts(np.array([count, count]), 100, None, (), 10)
    assert facts.of(ResNet18()).choices() == facts.choices() and facts.of(ResNet18(weights=None)).choices() == [*made.values()]
    without = choices(np.array([count, count]), 100, None, network=NetworkTraits(batch_norm=False, pretrained=False))
    assert [choice.value for choice in without if choice.name == "bn"] == [None]


@pytest.mark.parametrize("model", [ResNet18(weights=None), ConvNeXtTiny("in12k_ft_in1k_384")])
def test_a_set_is_measured_for_the_network_that_will_train(tmp_path, model) -> None:
    """Weights of 384 px were measured as if they were of 224, unless another network had been measured first."""
    source = ImageFolder(str(folder(tmp_path / "photos"))).open()
    found, other = (measure(source, network, familiar=False) for network in (model, EfficientNetLite0()))
    assert found[1:] == other.of(model)[1:] != other[1:] and found.choices() == other.of(model).choices()


def test_networks_without_batch_normalisation_have_no_statistics_to_choose_for() -> None:
    counts = np.array([5000, 5000])
    made = {choice.name: choice for choice in choices(counts, 100, None, network=NetworkTraits(batch_norm=False))}
    assert made["bn"].value is None and "no batch normalisation" in made["bn"].reason
    assert "bn=" not in file_text("a", ImageFolder("a"), "ViTSmall16", [*made.values()])
    facts = ImageFacts(counts, 100, None, (), 10).of(DINOv2ViTSmall14())
    assert facts.network[:2] == (518, False) and facts.of(ResNet18()).network.batch_norm


@seeded
@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=9), st.integers(1, 5000), st.sampled_from([160, 224]))
def test_the_head_alone_is_chosen_for_as_in_the_whole_recipe(counts, side, trained_at) -> None:
    fast, good = (values(np.array(counts), side, 0.5, epochs, NetworkTraits(trained_at)) for epochs in (0, None))
    assert fast.pop("cycles") == 0 and fast.items() <= good.items()
    assert not {"bn", "similar_to_imagenet", "epoch_steps", "cycle_len"} & fast.keys()


def folder(root, sizes=(("a", 30), ("b'c", 12))):
    rng = np.random.default_rng(0)
    for name, n in sizes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(root / name / f"{i}.png")
    return root


def test_the_file_says_what_was_chosen_and_plans(tmp_path, monkeypatch, capsys) -> None:
    root = folder(tmp_path / "my 'own' photos")
    for name in ("a/x.tif", "a/y.TIF", "a/noext", "stray.png", ".hidden"):
        (root / name).write_bytes(b"?")
    monkeypatch.chdir(tmp_path)
    main.main(["new", str(root), "--no-measure", "--epochs", "3"])
    out = capsys.readouterr().out
    made = tmp_path / "my_'own'_photos.py"
    wanted = "not part of the set: 4 files (2 .tif, 1 images elsewhere, 1 without extension)"
    assert wanted in " ".join(out.split())
    assert "34 train, 8 valid" in out and str(made.name) in out
    experiment = load_experiment(made)
    assert (experiment.batch_size, experiment.epoch_steps, experiment.balance) == (32, 20, 0.5)
    assert {stage.size for stage in experiment.stages} == {128} and experiment.data.root == str(root)  # pyright: ignore[reportAttributeAccessIssue]
    assert [plan(one, 34).stages[-1].steps for one in (experiment, replace(experiment, refit=False))] == [3 * 12, 3 * 20]
    before = made.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main.main(["new", str(root), "--no-measure"])
    assert stopped.value.code == 2 and made.read_bytes() == before and "it is there already" in capsys.readouterr().err


def test_fast_is_the_head_alone(tmp_path, monkeypatch) -> None:
    root = folder(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(domain_similarity, "confidence", None)  # what the body would need is not measured
    main.main(["new", str(root), "--quality", "fast"])
    made = load_experiment(tmp_path / "photos.py")
    assert [(stage.name, stage.precompute, stage.views) for stage in made.stages] == [("cached head", True, 4)]
    assert made == fine_tune(root, epochs=0) and (made.balance, made.refit) == (0.5, True)
    assert [p.steps for p in plan(made, 34).stages] == [1]
    assert fine_tune("x", ImageFolder("photos"), ResNet18(), 64, epochs=0).stages == lesson2(64, cycles=0)


@pytest.mark.parametrize("name", ["-flowers", "--my flowers"])
def test_the_next_command_takes_the_file_for_no_option(tmp_path, monkeypatch, capsys, name) -> None:
    folder(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    main.main(["new", f"./{name}", "--no-measure", "--quality", "fast"])
    file = shlex.split(capsys.readouterr().out.partition("next: sgdr-jax train ")[2])[0]
    assert not file.startswith("-") and load_experiment(file).name == name.replace(" ", "_")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--model", "ResNet35"], "did you mean ResNet50 or ResNet34"),
        (["--epochs", "0"], "--epochs is 0.0; use a positive number of epochs"),
        (["--epochs", "0.01"], '--epochs is 0.01; stage "all": cycle 0 of the schedule is 0.01 epochs of 12 steps, less than one step'),
        (["--epochs", "1e-9"], "--epochs is 1e-09; schedule.cycle_len is 0.0; use a positive number"),
        (["--epochs", "1e9"], "--epochs is 1000000000.0; use a positive number of epochs, at most 10,000"),
        (["--minutes", "inf"], "--minutes is inf; use a positive number of minutes"),
        (["--minutes", "0"], "--minutes is 0.0; use a positive number of minutes"),
        (["--minutes", "1", "--epochs", "2"], "--minutes is 1.0; give --epochs or --minutes, not both"),
        (["--quality", "fast", "--epochs", "2"], "--epochs is 2.0; --quality fast trains no body that could take it; leave it out"),
        (["--quality", "fast", "--minutes", "2"], "--minutes is 2.0; --quality fast trains no body that could take it; leave it out"),
        (["--out", "a.txt"], "use a name that ends in .py"),
        (["--out", "nowhere/a.py"], "name a file in a folder that exists"),
    ],
)
def test_nonsense_is_one_line_and_no_file(tmp_path, monkeypatch, capsys, words, wanted) -> None:
    root = folder(tmp_path / "photos", (("a", 4), ("b", 4)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main.main(["new", str(root), "--no-measure", *words])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and wanted in error and error.count("\n") == 1
    assert not list(tmp_path.glob("**/*.py"))


def test_names_are_data_and_not_code() -> None:
    text = file_text("a'\"\\", ImageFolder('x"); import os; ("'), "ResNet18", choices(np.array([9, 9]), 100, None))
    tree = ast.parse(text)
    assert sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)) == 4


def test_minutes_become_epochs_at_the_pace_of_this_machine(tmp_path, monkeypatch, capsys) -> None:
    root = folder(tmp_path / "photos")  # 34 + 8 images: an epoch has 12 updates, one of the refit 20
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "update_seconds", lambda experiment, classes: 0.5)
    main.main(["new", str(root), "--no-measure", "--minutes", "1"])
    assert "an update takes 0.5 s here: 1 minutes are 3.75 epochs, refit included" in " ".join(capsys.readouterr().out.split())
    assert plan(load_experiment(tmp_path / "photos.py"), 34).stages[-1].steps == 45
    with pytest.raises(SystemExit):
        main.main(["new", str(root), "--no-measure", "--minutes", "0.2", "--out", "b.py"])
    assert "--minutes is 0.2; one epoch takes 0.27 minutes; give more" in capsys.readouterr().err
    assert not (tmp_path / "b.py").exists()


def test_the_updates_of_the_last_stage_are_timed() -> None:
    stages = (Stage("a", size=16, train="head", schedule=Sgdr()), Stage("b", size=(8, 16), lr=1e-2, schedule=Sgdr(2)))
    made = Experiment("x", ImageFolder("nowhere"), Tiny(), stages, augment=side_on(), batch_size=8)
    ticks = iter(range(100))
    times = [0, 100, 100, 103, 103, 104, 104, 109]  # begun, done: the first update compiles
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: times[next(ticks)]))
        assert timing.update_seconds(made, classes=3, updates=3) == 3
