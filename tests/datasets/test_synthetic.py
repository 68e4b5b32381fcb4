"""Generated pictures: reproducible, learnable."""

from dataclasses import replace

import numpy as np

from sgdr_jax.datasets import Synthetic


def test_synthetic_is_reproducible_and_can_be_learned():
    data = Synthetic(classes=4, train=80, valid=40, test=5)
    source = data.open()
    assert source.sizes == {"train": 80, "valid": 40, "test": 5}
    assert source.fingerprint == data.open().fingerprint != replace(data, seed=1).open().fingerprint
    assert np.bincount(source.labels["train"]).tolist() == [20] * 4
    colour = {split: images.reshape(len(images), -1, 3).mean(axis=1) for split, images in source.items.items()}
    centres = np.stack([colour["train"][source.labels["train"] == label].mean(axis=0) for label in range(4)])
    nearest = ((colour["valid"][:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == source.labels["valid"]).mean() > 0.9


def test_synthetic_multi_label_and_grey():
    source = Synthetic(classes=3, train=9, valid=3, side=8, channels=1, multi_label=True).open()
    assert source.items["train"].shape == (9, 8, 8, 1)
    assert source.items["train"].dtype == np.uint8
    assert source.labels["train"].shape == (9, 3)
    assert (source.labels["train"].sum(axis=1) >= 1).all()
    assert (source.labels["train"].sum(axis=1) > 1).any()
