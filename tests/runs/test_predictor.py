"""Folders of images to predict: what is in them is predicted, or one line says that it is not."""

import json

import pytest

from sgdr_jax import Eval, Stage
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.datasets import Synthetic
from sgdr_jax.distributed import mesh
from sgdr_jax.runs.predictor import evaluate_split, expand, open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant

from ..datasets.pictures import picture
from ..helpers import experiment


def test_hidden_copies_and_other_formats_are_left_out_with_a_line(tmp_path, monkeypatch):
    for name in ("a.png", "b/c.jpg", ".thumbnails/a.png", "b/.ipynb_checkpoints/c-checkpoint.png", "__MACOSX/a.png", "b/._c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in/b/c.jpg").rename(tmp_path / "in/b/c.JPG")
    said: list[str] = []
    assert expand([str(tmp_path / "in")], said.append) == [str(tmp_path / "in/a.png"), str(tmp_path / "in/b/c.JPG")]
    assert said == [f"{tmp_path}/in: not predicted: 4 hidden images"]
    (tmp_path / "in/scan.tif").write_bytes(b"")
    said.clear()
    expand([str(tmp_path / "in")], said.append)
    assert said == [f"{tmp_path}/in: not predicted: 4 hidden images, 1 file (1 .tif)"]
    monkeypatch.chdir(tmp_path / "in")
    said.clear()
    assert expand([".", ".thumbnails"], said.append) == ["a.png", "b/c.JPG", ".thumbnails/a.png"]
    assert expand([".thumbnails/a.png", "b/._c.png"], said.append) == [".thumbnails/a.png", "b/._c.png"]
    assert said == [".: not predicted: 4 hidden images, 1 file (1 .tif)"]


def test_folders_without_images_are_refused(tmp_path):
    picture(tmp_path / "in" / ".hidden" / "a.png")
    with pytest.raises(InputError, match="name a folder that holds image files"):
        expand([str(tmp_path / "in")])
    with pytest.raises(InputError, match="no such file or folder"):
        expand([str(tmp_path / "nowhere")])


@pytest.mark.parametrize("there", [1, 2, 3, 4])
def test_a_run_is_used_on_any_number_of_devices(tmp_path, monkeypatch, there):
    """Networks trained on two devices, or with batches that the devices here do not divide, could not be opened."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stage = Stage("head", size=16, train="head", lr=0.01, schedule=Constant(1))
    data = Synthetic(classes=3, train=18, valid=9, test=7, side=16)
    how = {"data": data, "batch_size": 6, "evaluate": Eval(batch_size=6, tta_views=0), "parallel": Parallel(devices=2)}
    run(experiment(stage, **how), tmp_path / "run")
    all_devices = mesh.start_backend()
    monkeypatch.setattr(mesh, "start_backend", lambda: all_devices[:there])
    net = open_predictor(tmp_path / "run")
    assert net.programs.devices.count == {1: 1, 2: 2, 3: 3, 4: 3}[there]
    found = evaluate_split(net, "test")
    wanted = json.loads((tmp_path / "run/summary.json").read_text())["test"]["accuracy"]
    assert (found.views.probabilities.argmax(1) == found.labels).mean() == pytest.approx(wanted)
