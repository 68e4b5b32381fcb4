"""What a run records of its data."""

import json
from pathlib import Path

import numpy as np

from sgdr_jax.core.serialization import config_hash, to_json
from sgdr_jax.data.load import load
from sgdr_jax.datasets import Arrays
from sgdr_jax.runs.folder import open_run, read
from sgdr_jax.runs.recorder import data_record, duplicate_notes

from ..helpers import experiment


def test_the_data_of_a_run_are_recorded(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8), np.uint8)
    images[6] = images[5] = images[0]  # labels 0, 1, 0
    data = load(Arrays.of((images, np.array([0, 1, 0, 1, 0, 1, 0])), (images[1:3], [1, 0])).open(), canvas=8)
    record = data_record(data, most=1)
    assert record["counts"] == {"train": [4, 3], "valid": [1, 1]} and record["images"] == {"train": 7, "valid": 2}
    assert record["across_splits"] == 2 and record["across_splits_names"] == [["train: train/1", "valid: valid/0"]]
    assert record["conflicting"] == 1 and record["conflicting_names"] == [["train: train/0", "train: train/5", "train: train/6"]]
    assert record["within_split"] == 2 and record["unreadable"] == 0 and not record["multi_label"]
    with open_run(tmp_path / "run", to_json(experiment()), config_hash(experiment())) as folder:
        folder.write_data(record)
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == record == read(tmp_path / "run").data


def test_images_that_several_splits_share_are_one_line_of_the_run() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8), np.uint8)
    data = load(Arrays.of((images, np.array([0, 1, 0, 1, 0, 1])), (images[1:3], [1, 1])).open(), canvas=8)
    across, conflicting = duplicate_notes(data_record(data))
    assert across == "2 images occur in several splits, such as train: train/1, valid: valid/0; sgdr-jax data lists them"
    assert conflicting.startswith("1 image occurs more than once with different labels, such as train: train/2, valid: valid/1;")
    assert duplicate_notes(data_record(load(Arrays.of((images, np.array([0, 1, 0, 1, 0, 1]))).open(), canvas=8))) == []
