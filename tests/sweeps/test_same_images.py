"""A sweep goes on only with the images that its runs began with."""

import dataclasses

import pytest
from PIL import Image

from sgdr_jax import Sgd, Stage
from sgdr_jax.core.errors import ImagesChanged, InputError
from sgdr_jax.core.serialization import to_json
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.schedules import Constant
from sgdr_jax.sweeps import LogUniform, Search, Sweep, grid
from sgdr_jax.sweeps.runner import work
from sgdr_jax.sweeps.same_images import same_training_images
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder

from ..helpers import Tiny, experiment

HEAD = Stage("head", size=16, train="head", lr=0.01, schedule=Constant(1))


def draw(folder, name, colour="red"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), colour).save(folder / name)


@pytest.fixture
def images(tmp_path):
    for kind, colour in (("cat", "red"), ("dog", "blue")):
        for i in range(8):
            draw(tmp_path / "images" / kind, f"{i}.png", colour)
    return tmp_path / "images"


@pytest.fixture
def sweep(images):
    data = ImageFolder(str(images), valid_fraction=0.25)
    return Sweep("s", experiment(HEAD, data=data, model=Tiny(), batch_size=4, optimizer=Sgd()), seeds=(0,))


def states(entries):
    return [entry.state for entry in entries]


def test_a_sweep_whose_folder_has_grown_is_refused_until_it_is_as_it_was(tmp_path, images, sweep):
    assert states(work(sweep, tmp_path / "s")) == ["finished"]
    longer = dataclasses.replace(sweep, seeds=(0, 1))
    draw(images / "cat", "new.png")
    with pytest.raises(InputError, match=r"the images are not those of the runs in .*/s: .*new\.png.*; restore them, or use another --dir"):
        work(longer, tmp_path / "s")
    assert not (tmp_path / "s" / "failed").exists() and not run_folder(tmp_path / "s", expand(longer)[1].hash).exists()
    (images / "cat" / "new.png").unlink()
    assert states(work(longer, tmp_path / "s")) == ["finished"] * 2


def test_images_of_another_class_are_others_and_those_of_another_size_are_not(tmp_path, images, sweep):
    sizes = dataclasses.replace(sweep, axes=(grid({"stages.0.size": (16, 24)}),))
    work(sizes, tmp_path / "s", only=[0])
    draw(images / "cat", "0.png", "green")  # replaced: its run, if begun, would refuse it, and others cannot know
    assert states(work(sizes, tmp_path / "s")) == ["finished"] * 2
    (images / "cat" / "1.png").rename(images / "dog" / "cat1.png")
    with pytest.raises(ImagesChanged, match="cat1"):
        work(dataclasses.replace(sizes, seeds=(0, 1)), tmp_path / "s")


def test_an_arm_with_other_data_is_no_change(tmp_path, images, sweep):
    axis = grid({"data.valid_fraction": (0.25, 0.5)})
    assert states(work(dataclasses.replace(sweep, axes=(axis,)), tmp_path / "s")) == ["finished"] * 2


def test_a_trial_on_other_images_is_given_back(tmp_path, images, sweep):
    def searched(trials):
        search = Search({"stages.0.lr": LogUniform(1e-3, 1e-1)}, trials=trials)
        return dataclasses.replace(sweep, search=search)

    work(searched(1), tmp_path / "s")
    draw(images / "cat", "new.png")
    for _ in range(2):
        with pytest.raises(ImagesChanged):
            work(searched(2), tmp_path / "s")
    (images / "cat" / "new.png").unlink()
    work(searched(2), tmp_path / "s")
    assert len(list((tmp_path / "s").glob("runs/*/summary.json"))) == 3 and not (tmp_path / "s" / "failed").exists()


def test_what_is_not_recorded_is_taken_for_the_same(tmp_path, sweep):
    longer = dataclasses.replace(sweep, seeds=(0, 1))
    work(longer, tmp_path / "s")
    one, two = (run_folder(tmp_path / "s", run.hash) for run in expand(longer))
    assert same_training_images(one, two) and to_json(sweep.base.data)
    (two / "images.json.gz").write_bytes(b"damaged")
    assert same_training_images(one, two)
    (two / "images.json.gz").unlink()
    assert same_training_images(one, two)
