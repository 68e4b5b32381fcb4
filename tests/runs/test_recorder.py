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
    assert (
        across
        == "2 groups, 4 images, have the same pixels in several splits, such as train: train/1, valid: valid/0; sgdr-jax data lists them"
    )
    assert conflicting.startswith("1 group, 2 images, has the same pixels but different labels, such as train: train/2, valid: valid/1;")
    assert duplicate_notes(data_record(load(Arrays.of((images, np.array([0, 1, 0, 1, 0, 1]))).open(), canvas=8))) == []


def test_the_names_of_a_group_show_why_it_is_told() -> None:
    """The first four of twelve images were of one split and of one label, so that nothing was wrong with them."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    images[:12] = images[0]
    labels = np.arange(20) % 2
    labels[:12], labels[9] = 0, 1
    record = data_record(load(Arrays.of((images, labels), (images[11:15], [0, 0, 1, 1]), (images[11:13], [0, 1])).open(), canvas=8))
    across, conflicting = record["across_splits_names"][0], record["conflicting_names"][0]
    assert across == ["train: train/0", "valid: valid/0", "test: test/0", "train: train/1"]
    assert conflicting == ["train: train/0", "train: train/9", "train: train/1", "train: train/2"]
    assert (record["across_splits"], record["across_splits_images"]) == (4, 14 + 3 + 2 + 2)
    assert (record["conflicting"], record["conflicting_images"]) == (3, 14 + 3 + 2)
