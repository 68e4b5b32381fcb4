"""The network of a run is the same on any number of devices."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from sgdr_jax import Eval, InputError, Stage
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.datasets import Synthetic
from sgdr_jax.distributed import mesh
from sgdr_jax.runs.predictor import evaluate_split, open_predictor, predict
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant

from ..helpers import experiment


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
    file = tmp_path / "one.png"
    Image.new("RGB", (16, 16)).save(file)
    assert predict(net, [file, str(file), np.zeros((16, 16, 3), np.uint8)]).paths == (str(file), str(file), "image 2")
    bare = net._replace(experiment=dataclasses.replace(net.experiment, augment=()))
    assert evaluate_split(bare, "test", views=0).views.views == 1  # views that would all be plain were left out in silence
    with pytest.raises(InputError, match="tta_views is 3; random views are augmented images"):
        predict(bare, [file], views=3)
