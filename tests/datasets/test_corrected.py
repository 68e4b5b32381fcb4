"""Corrections: images left out, labels changed, everything else as it was."""

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import Arrays, Corrected, Mix, Synthetic

DATA = Synthetic(classes=3, train=9, valid=4, test=4, side=8)


def test_only_what_is_named_changes() -> None:
    before = DATA.open()
    after = Corrected(DATA, ("train/2", "valid/0"), (("train/4", "rings0"), ("test/3", "rings2"))).open()
    assert after.sizes == {"train": 8, "valid": 3, "test": 4}
    for split in before.names:
        kept = [i for i, name in enumerate(before.names[split]) if name not in ("train/2", "valid/0")]
        assert list(after.names[split]) == [before.names[split][i] for i in kept]
        np.testing.assert_array_equal(after.items[split], before.items[split][kept])
        expected = before.labels[split][kept]
        expected[[name in ("train/4",) for name in after.names[split]]] = 0
        expected[[name in ("test/3",) for name in after.names[split]]] = 2
        np.testing.assert_array_equal(after.labels[split], expected)
        assert after.labels[split].dtype == before.labels[split].dtype
    assert before.fingerprint != after.fingerprint and before.labels["train"][4] == 1
    assert Corrected(DATA).open().fingerprint == before.fingerprint


def test_several_labels_and_none() -> None:
    data = Synthetic(classes=3, train=9, side=8, multi_label=True)
    labels = Corrected(data, labels=(("train/0", "rings1", "rings2"), ("train/1",))).open().labels["train"]
    assert labels[:2].tolist() == [[0, 1, 1], [0, 0, 0]] and labels.dtype == np.float32


def test_rates_of_a_mixture_stay_in_proportion() -> None:
    mixed = Mix((DATA, Synthetic(classes=3, train=9, side=8, seed=1)), weights=(1.0, 3.0))
    before, after = mixed.open(), Corrected(mixed, drop=("0/train/0",)).open()
    assert before.rates is not None and after.rates is not None
    np.testing.assert_allclose(after.rates, before.rates[1:] * 17 / before.rates[1:].sum())


def test_what_does_not_fit_is_refused() -> None:
    for fields, message in (
        ({"drop": ("nowhere",)}, "there are no such images"),
        ({"labels": (("train/0", "square"),)}, "the classes are rings0, rings1, rings2"),
        ({"labels": (("train/0", "rings0", "rings1"),)}, "give one class"),
        ({"labels": (("train/0",),)}, "give one class"),
        ({"drop": tuple(f"train/{i}" for i in range(9))}, "leave training images"),
        ({"drop": ("train/0", "train/3", "train/6")}, r"classes without a training image is \['rings0'\]"),
    ):
        with pytest.raises(InputError, match=message):
            Corrected(DATA, **fields).open()
    with pytest.raises(InputError, match="not both"):
        Corrected(DATA, ("train/0",), (("train/0", "rings1"),))
    with pytest.raises(InputError, match="give each image one label"):
        Corrected(DATA, (), (("train/0", "rings1"), ("train/0", "rings2")))
    with pytest.raises(InputError, match="give the name of an image"):
        Corrected(DATA, (), ((),))


def test_a_split_may_be_left_out_as_a_whole() -> None:
    images = np.zeros((4, 4, 4), np.uint8)
    source = Corrected(Arrays.of((images, [0, 1, 0, 1]), (images[:1], [0])), drop=("valid/0",)).open()
    assert source.sizes == {"train": 4}
