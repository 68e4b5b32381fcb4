"""Arrays from files and from memory."""

import json

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.serialization import from_json, to_json
from sgdr_jax.datasets import Arrays


def test_arrays_from_a_file_and_from_memory_are_alike(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (10, 6, 6), np.uint8), np.arange(10) % 2
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images[:3], y_test=labels[:3], classes=np.array(["no", "yes"]))
    stored = Arrays(str(tmp_path / "set.npz")).open()
    held = Arrays.of((images, labels), test=(images[:3], labels[:3]), classes=("no", "yes")).open()
    assert stored.fingerprint == held.fingerprint
    assert stored.classes == ("no", "yes")
    assert stored.sizes == {"train": 8, "valid": 2, "test": 3}
    where = [int(name.split("/")[1]) for name in stored.names["valid"]]
    np.testing.assert_array_equal(stored.items["valid"], images[where])
    np.testing.assert_array_equal(stored.labels["valid"], labels[where])


def test_arrays_in_memory_compare_by_content_and_survive_the_command_line():
    import tyro

    from sgdr_jax.core.types import Dataset

    images, labels = np.zeros((4, 6, 6), np.uint8), [0, 1, 0, 1]
    data = Arrays.of((images, labels))
    assert data == Arrays.of((images.copy(), labels))
    assert data != Arrays.of((images + np.uint8(1), labels))
    assert data != Arrays.of((images, labels), (images, labels))

    changed = tyro.cli(tyro.conf.AvoidSubcommands[Dataset], default=data, args=["--seed", "3"])
    assert isinstance(changed, Arrays)
    assert (changed.seed, changed.open().sizes) == (3, {"train": 2, "valid": 2})
    again = from_json(json.loads(json.dumps(to_json(data))))
    assert again == data
    with pytest.raises(InputError, match="were in memory only"):
        again.open()


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((np.zeros((4, 6, 6), np.float32), [0, 1, 0, 1]), r"x_train is 'float32\[4, 6, 6\]'"),
        ((np.zeros((4, 6, 6, 2), np.uint8), [0, 1, 0, 1]), "x_train is"),
        ((np.zeros((4, 6, 6), np.uint8), [0, 1, 0]), "the length is 3"),
        ((np.zeros((4, 6, 6), np.uint8), [0, 1, 0, -1]), "integers from 0"),
        ((np.zeros((4, 6, 6), np.uint8), [0.5, 1, 0, 1]), "integers from 0"),
        ((np.zeros((4, 6, 6), np.uint8), [0, 2, 0, 2]), r"without a training image is \['1'\]"),
        ((np.zeros((4, 6, 6), np.uint8), [0, 0, 0, 0]), "at least two"),
        (
            (np.zeros((4, 6, 6), np.uint8), [0, 1, 0, 400_000_000]),
            "the largest label is 400000000 with 4 images; number the classes from 0",
        ),
        ((np.zeros((4, 6, 6), np.uint8), [0, 1, 0, 2**32 + 1]), "y_train has the label 4294967297; number the classes from 0"),
        ((np.zeros((4, 6, 6), np.uint8), np.array([0, 1, 0, 2**63], np.uint64)), "y_train has the label 9223372036854775808"),
    ],
)
def test_array_errors(pair, words):
    with pytest.raises(InputError, match=words):
        Arrays.of(pair).open()


def test_array_file_errors(tmp_path):
    file = tmp_path / "set.npz"
    with pytest.raises(InputError, match="no such file"):
        Arrays(str(file)).open()
    np.savez(file, x_train=np.zeros((4, 6, 6), np.uint8))
    with pytest.raises(InputError, match="y_train is missing"):
        Arrays(str(file)).open()
    np.savez(file, x_train=np.array([{}], object), y_train=np.zeros(1, int))
    with pytest.raises(InputError, match="plain arrays"):
        Arrays(str(file)).open()
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match="plain arrays"):
        Arrays(str(file)).open()
    file.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="plain arrays"):
        Arrays(str(file)).open()


def test_multi_label_arrays():
    source = Arrays.of((np.zeros((4, 6, 6, 3), np.uint8), np.array([[1, 0], [0, 1], [1, 1], [0, 0]]))).open()
    assert source.multi_label
    assert source.labels["valid"].dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_one_hot_rows_are_ambiguous_unless_told(dtype):
    images, labels = np.zeros((6, 6, 6), np.uint8), np.arange(6) % 3
    hot = np.eye(3, dtype=dtype)[labels]
    with pytest.raises(InputError, match=r"y_train is one-hot.*argmax.*multi_label") as error:
        Arrays.of((images, hot)).open()
    assert "\n" not in str(error.value)
    single = Arrays.of((images, hot), multi_label=False).open()
    plain = Arrays.of((images, labels)).open()
    assert single.fingerprint == plain.fingerprint and single.labels["train"].dtype == np.int32
    several = Arrays.of((images, hot), multi_label=True).open()
    assert several.multi_label and several.labels["train"].sum(axis=1).tolist() == [1] * 3
    with pytest.raises(InputError, match=r"data\.multi_label is False"):
        Arrays.of((images, np.array([[1, 1, 0], [0, 0, 1]])[labels % 2]), multi_label=False).open()
    assert Arrays.of((images, labels), multi_label=True).open().labels["train"].tolist() == np.eye(3)[plain.labels["train"]].tolist()


def test_arrays_that_are_not_used_are_told(tmp_path):
    images = np.zeros((4, 6, 6), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=[0, 1, 0, 1], x_val=images, y_valid=[0, 1], classes=["a", "b"])
    assert Arrays(str(tmp_path / "set.npz"), 0.5).open().notes == ("set.npz: not used: the arrays x_val, y_valid",)
    assert Arrays.of((images, [0, 1, 0, 1]), classes=["a", "a"], valid_fraction=0.5).open().notes == ("2 classes are named 'a'",)
