"""Datasets: what each kind finds, how it splits, and what it says about bad input. No network; images of a few pixels."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.serialization import from_json, to_json
from sgdr_jax.datasets import Arrays, CsvLabels, FashionMnist, ImageFolder, Synthetic, Tfds, fashion_mnist, splits, tfds

from .test_tfds import prepared


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def tree(root: Path, counts: dict[str, int]) -> Path:
    for folder, count in counts.items():
        for i in range(count):
            picture(root / folder / f"{i:02}.png", i)
    return root


# ---- splits ----

single = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)
several = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=30).map(lambda rows: np.array(rows, np.float32))
fractions = st.floats(0.01, 0.99)


@given(single, fractions, st.integers(0, 9))
def test_hold_out_takes_the_share_of_each_class(labels, fraction, seed):
    held = splits.hold_out([f"i{i}" for i in range(len(labels))], labels, fraction, seed)
    for label in set(labels.tolist()):
        count, out = int((labels == label).sum()), int(held[labels == label].sum())
        assert out < count or count == 0  # one is always left to train on
        assert (out >= 1) == (count >= 2)
        assert abs(out - fraction * count) <= 1


@given(several, fractions, st.integers(0, 9))
def test_hold_out_of_multi_label_leaves_every_class_to_train(labels, fraction, seed):
    held = splits.hold_out([f"i{i}" for i in range(len(labels))], labels, fraction, seed)
    assert (labels[~held].sum(axis=0) > 0).tolist() == (labels.sum(axis=0) > 0).tolist()


def test_hold_out_spares_the_last_example_of_a_class_shared_by_rarer_ones():
    labels = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]], np.float32)
    for seed in range(20):
        held = splits.hold_out(["w", "x", "y", "z"], labels, 0.5, seed)
        assert labels[~held].any(axis=0).all()
        assert held.any()


@given(single, fractions, st.randoms(use_true_random=False))
def test_hold_out_does_not_depend_on_the_order_of_the_examples(labels, fraction, random):
    names = [f"i{i}" for i in range(len(labels))]
    held = splits.hold_out(names, labels, fraction, seed=3)
    moved = list(range(len(labels)))
    random.shuffle(moved)
    again = splits.hold_out([names[i] for i in moved], labels[moved], fraction, seed=3)
    assert again.tolist() == held[moved].tolist()


def test_hold_out_changes_with_the_seed_and_hardly_with_a_new_image():
    names, labels = [f"i{i}" for i in range(200)], np.arange(200) % 4
    held = splits.hold_out(names, labels, 0.25, seed=0)
    assert held.sum() == 4 * 13  # 12.5 of 50 is rounded up
    assert (splits.hold_out(names, labels, 0.25, seed=1) != held).any()
    more = splits.hold_out([*names, "new"], np.append(labels, 0), 0.25, seed=0)[:-1]
    assert (more != held).sum() <= 2


@given(single, st.integers(1, 6), st.integers(0, 9))
def test_per_class_picks_so_many(labels, count, seed):
    where = splits.per_class([f"i{i}" for i in range(len(labels))], labels, count, seed)
    assert where.tolist() == sorted(set(where.tolist()))
    expected = np.minimum(np.bincount(labels, minlength=5), count)
    assert np.bincount(labels[where], minlength=5).tolist() == expected.tolist()


def test_fingerprint_tells_parts_shapes_and_types_apart():
    texts = [
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["a:b"],
        ["a", "b"],
        [np.zeros(4, np.uint8)],
        [np.zeros((2, 2), np.uint8)],
        [np.zeros(1, np.float32)],
        [],
    ]
    assert len({splits.fingerprint(parts) for parts in texts}) == len(texts)


# ---- folders ----


def test_folder_of_classes_is_split_by_class(tmp_path):
    data = ImageFolder(str(tree(tmp_path, {"dog": 10, "cat": 5, "ant": 1})), valid_fraction=0.2)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    picture(tmp_path / "cat" / ".hidden.png")
    picture(tmp_path / ".git" / "0.png")
    source = data.open()
    assert source.classes == ("ant", "cat", "dog")
    assert source.sizes == {"train": 13, "valid": 3}
    assert np.bincount(source.labels["valid"], minlength=3).tolist() == [0, 1, 2]
    assert source.labels["train"].dtype == np.int32
    for split in ("train", "valid"):
        assert [Path(item).relative_to(tmp_path).as_posix() for item in source.items[split]] == list(source.names[split])
        assert [source.classes[label] for label in source.labels[split]] == [name.split("/")[0] for name in source.names[split]]
    assert not set(source.names["train"]) & set(source.names["valid"])


@pytest.mark.parametrize("valid", ["valid", "val"])
def test_folder_with_splits_keeps_them(tmp_path, valid):
    tree(tmp_path, {"train/a": 3, "train/b": 2, f"{valid}/a": 1, f"{valid}/b": 2, "test/b": 4, "extra/x": 1})
    (tmp_path / "train" / "b" / "LOUD.JPEG").write_bytes(b"")
    source = ImageFolder(str(tmp_path)).open()
    assert source.sizes == {"train": 6, "valid": 3, "test": 4}
    assert source.names["test"] == ("test/b/00.png", "test/b/01.png", "test/b/02.png", "test/b/03.png")
    assert source.labels["test"].tolist() == [1, 1, 1, 1]
    assert "train/b/LOUD.JPEG" in source.names["train"]


def test_folder_named_train_with_images_is_a_class(tmp_path):
    assert ImageFolder(str(tree(tmp_path, {"plane": 2, "train": 2}))).open().classes == ("plane", "train")


def test_unlabelled_test_folder_is_left_out(tmp_path):
    assert "test" not in ImageFolder(str(tree(tmp_path, {"train/a": 2, "train/b": 2, "test": 2}))).open().sizes


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (None, "no such folder"),
        ({}, "empty"),
        ({"a": 3}, r"two classes, found \['a'\]"),
        ({"train/a": 2, "train/b": 2, "valid/c": 1}, r'classes in "valid" is \[\'c\'\]'),
        ({"train/a": 2, "train/b": 2, "valid/a": 1, "val/a": 1}, "both val and valid"),
        ({"Train/a": 2, "Train/b": 2, "train/a": 2}, "both Train and train"),
        ({"a": 3, ".": 5}, r"two classes, found \['a'\] and 5 images in none"),
        ({"a": 1, "b": 1}, "at least two images of a class"),
    ],
)
def test_folder_errors(tmp_path, counts, words):
    root = tmp_path / "data"
    if counts is not None:
        root.mkdir()
        tree(root, counts)
    with pytest.raises(InputError, match=words) as error:
        ImageFolder(str(root)).open()
    assert "\n" not in str(error.value)


def test_splits_may_be_in_capitals_and_what_an_archive_of_macos_brings_is_no_class(tmp_path):
    tree(tmp_path, {"Train/a": 2, "Train/b": 2, "Validation/a": 1, "Test/b": 3, "__MACOSX": 1})
    source = ImageFolder(str(tmp_path)).open()
    assert source.classes == ("a", "b") and source.sizes == {"train": 4, "valid": 1, "test": 3}
    tree(tmp_path / "flat", {"a": 2, "b": 2, "__MACOSX/a": 1})
    assert ImageFolder(str(tmp_path / "flat")).open().classes == ("a", "b")


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(InputError, match="that is a file; give the folder"):
        ImageFolder(str(tmp_path / "x.zip")).open()


def test_class_folder_without_images_is_named(tmp_path):
    tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "scan.tiff").write_bytes(b"")
    with pytest.raises(InputError, match=r"without images is \['c'\]"):
        ImageFolder(str(tmp_path)).open()


def test_fingerprint_follows_files_not_the_place(tmp_path):
    one, two = (tree(tmp_path / name, {"a": 3, "b": 3}) for name in ("one", "two"))
    for root in (one, two):
        for file in root.rglob("*.png"):
            os.utime(file, ns=(10**18, 10**18))
    first = ImageFolder(str(one)).open().fingerprint
    assert ImageFolder(str(two)).open().fingerprint == first
    assert ImageFolder(str(one), seed=1).open().fingerprint != first
    os.utime(two / "a" / "00.png", ns=(10**18, 10**18 + 1))
    assert ImageFolder(str(two)).open().fingerprint != first


def test_share_out_of_range_is_refused():
    for kind in (ImageFolder, CsvLabels, Arrays, FashionMnist, Tfds):
        with pytest.raises(InputError, match=r"data.valid_fraction is 1.0"):
            kind(valid_fraction=1.0)


# ---- CSV ----


def dogs(root: Path, text: str, images: tuple[str, ...] = ("a.jpg", "b.png", "c.jpg", "d.jpg")) -> CsvLabels:
    for name in images:
        picture(root / "train" / name)
    (root / "labels.csv").write_bytes(text.encode())
    return CsvLabels(str(root), valid_fraction=0.5)


def test_csv_single_label(tmp_path):
    source = dogs(tmp_path, "\ufeffid,breed\r\na,pug\r\nb.png,boxer\r\n\r\nc,pug\r\nd,boxer\r\n").open()
    assert source.classes == ("boxer", "pug")
    assert source.sizes == {"train": 2, "valid": 2}
    found = {
        name: source.classes[label] for split in source.names for name, label in zip(source.names[split], source.labels[split], strict=True)
    }
    assert found == {"a.jpg": "pug", "b.png": "boxer", "c.jpg": "pug", "d.jpg": "boxer"}
    assert source.items["train"][0] == str(tmp_path / "train" / source.names["train"][0])


def test_csv_multi_label_and_split_column(tmp_path):
    source = dogs(tmp_path, "id,tags,split\na,x y,train\nb,,val\nc,z,train\nd,y,test\n").open()
    assert source.classes == ("x", "y", "z")
    assert source.multi_label
    assert source.labels["train"].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert source.labels["train"].dtype == np.float32
    assert (source.labels["valid"].tolist(), source.labels["test"].tolist()) == ([[0, 0, 0]], [[0, 1, 0]])


def test_csv_separator_and_subfolders(tmp_path):
    data = dogs(tmp_path, "id,tags\nx/a.b,great dane\ny/b,pug\nx/c,pug\ny/d,great dane\n", ("x/a.b.jpg", "y/b.jpg", "x/c.png", "y/d.gif"))
    assert replace(data, separator="").open().classes == ("great dane", "pug")
    assert data.open().classes == ("dane", "great", "pug")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,breed\na,x\nnone1,x\nnone2,y\nnone3,y\nnone4,y\n", "4 of 5 images .*: none1, none2, none3, …"),
        ("id,breed\na,x\n../train/b,y\n", r"1 of 2 images .*: \.\./train/b;"),
        ("id,breed\na,x\n/etc/passwd,y\n", "1 of 2 images"),
        ("a,x\nb,y\n", "that names an image"),
        ("id,breed\na,x\nb,\n", "labels.csv line 3: 'b' has no label"),
        ("id,breed\na,x\nb\n", "labels.csv line 3 is .*write an image and its labels"),
        ("id,breed\na,x\na.jpg,y\n", "listed more than once"),
        ("id,breed,split\na,x,train\nb,y,dev\n", "line 3: split is 'dev'"),
        ("id,breed,split\na,x,valid\nb,y,test\n", "rows marked train is 0"),
        ("id,breed,split\na,x,train\nb,y,valid\n", r"without a training image is \['y'\]"),
        ("id,breed\na,x\nb,x\n", "at least two"),
        ("id,breed\n", "header line"),
        ("", "header line"),
    ],
)
def test_csv_errors(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as error:
        dogs(tmp_path, text).open()
    assert "\n" not in str(error.value)


def test_csv_file_errors(tmp_path):
    data = dogs(tmp_path, "id,breed\na,x\nb,y\n")
    with pytest.raises(InputError, match=r"data.split_column is 'fold'"):
        replace(data, split_column="fold").open()
    with pytest.raises(InputError, match=r"data.images is .*no such folder"):
        replace(data, images="pictures").open()
    picture(tmp_path / "train" / "a.png")
    with pytest.raises(InputError, match="line 2 is 'a'; several files"):
        data.open()
    (tmp_path / "labels.csv").write_bytes(b"id,breed\n\xff\xfe,x\n")
    with pytest.raises(InputError, match="UTF-8"):
        data.open()
    with pytest.raises(InputError, match=r"data.labels is .*no such file"):
        replace(data, labels="tags.csv").open()


# ---- arrays ----


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


# ---- made and fetched sets ----


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


@pytest.fixture
def small_fashion(monkeypatch, tmp_path):
    """A stand-in for Fashion-MNIST of 40 + 20 pictures, its four files in a folder, and no other place to look in."""
    counts, headers = {"train": 40, "test": 20}, {"images": b"\0\0\x08\x03" + bytes(12), "labels": b"\0\0\x08\x01" + bytes(4)}
    rng, pixels, folder = np.random.default_rng(0), {}, tmp_path / "files"
    folder.mkdir()
    files, digests = {}, {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = rng.integers(0, 256, (counts[split], 28, 28, 1), np.uint8)
        parts = (images, (np.arange(counts[split]) % 10).astype(np.uint8))
        files[split] = tuple(
            (f"{prefix}-{kind}-idx{ndim}-ubyte.gz", len(headers[kind]), part.size)
            for kind, ndim, part in zip(("images", "labels"), (3, 1), parts, strict=True)
        )
        for (name, _, _), part, header in zip(files[split], parts, headers.values(), strict=True):
            (folder / name).write_bytes(gzip.compress(header + part.tobytes()))
        digests[split] = tuple(hashlib.sha256(part.tobytes()).hexdigest() for part in parts)
        pixels[split] = images
    for name, value in {"COUNTS": counts, "DIGESTS": digests, "_FILES": files, "_SYSTEM": Path("/nowhere/fashion-mnist")}.items():
        monkeypatch.setattr(fashion_mnist, name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(fashion_mnist.importlib.util, "find_spec", lambda name: None)
    return folder, pixels


def test_fashion_mnist_from_its_files(small_fashion):
    folder, pixels = small_fashion
    source = FashionMnist(train_per_class=3, valid_fraction=0.34, root=str(folder)).open()
    assert source.sizes == {"train": 20, "valid": 10, "test": 20}
    assert source.classes[9] == "Ankle boot"
    np.testing.assert_array_equal(source.items["test"], pixels["test"])
    for split in ("train", "valid"):
        where = [int(name.split("/")[1]) for name in source.names[split]]
        np.testing.assert_array_equal(source.items[split], pixels["train"][where])
        assert np.bincount(source.labels[split]).tolist() == [2 if split == "train" else 1] * 10


def test_fashion_mnist_says_why_each_place_failed(small_fashion):
    folder, _ = small_fashion
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8 + 20)))
    with pytest.raises(InputError) as error:
        FashionMnist(root=str(folder)).open()
    text = str(error.value)
    assert "\n" not in text
    for words in ("sgdr-jax prepare fashion_mnist", "SHA-256 of the test set", "tensorflow is 'missing'", "apt-get is 'missing'"):
        assert words in text


@pytest.mark.parametrize("listed", [True, False])
def test_fashion_mnist_from_the_debian_package(small_fashion, tmp_path, monkeypatch, listed):
    folder, pixels = small_fashion
    tools = tmp_path / "bin"
    tools.mkdir()
    # Without package lists of its own, apt-get knows no package; an update fills the lists folder it is told of.
    apt = f"""#!/bin/sh
case "$*" in
  *Dir::State::Lists=*update) for a; do case "$a" in Dir::State::Lists=*) touch "${{a#*=}}/filled";; esac; done; exit 100;;
  *download*) {"true" if listed else "[ -e lists/filled ]"} || {{ echo "E: no such package" >&2; exit 100; }}
    touch dataset-fashion-mnist_1_all.deb;;
esac"""
    dpkg = f'#!/bin/sh\n/bin/mkdir -p "$3/nowhere"\n/bin/cp -r {folder} "$3/nowhere/fashion-mnist"\n'
    for name, text in (("apt-get", apt.replace("touch", "/usr/bin/touch")), ("dpkg", dpkg)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    source = FashionMnist().open()
    np.testing.assert_array_equal(source.items["test"], pixels["test"])
    cache = tmp_path / "cache" / "sgdr_jax" / "fashion-mnist"
    assert sorted(path.name for path in cache.iterdir()) == sorted(path.name for path in folder.iterdir())
    monkeypatch.setenv("PATH", "")
    assert FashionMnist().open().fingerprint == source.fingerprint


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="the Debian package dataset-fashion-mnist is not installed"
)
def test_fashion_mnist_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert FashionMnist(train_per_class=500).open().sizes == {"train": 4500, "valid": 500, "test": 10000}


def test_fashion_mnist_from_a_prepared_folder_has_the_official_order(small_fashion, tmp_path, monkeypatch):
    """Undoes how TFDS shuffles when it writes; this fails when TFDS changes that."""
    folder = prepared(tmp_path / "tfds", "fashion_mnist", fashion_mnist.COUNTS, (28, 28, 1))
    images, _ = tfds.read(tfds.builder_in(tfds.find("fashion_mnist")), "train")
    assert images[:, 0, 0, 0].tolist() == fashion_mnist._stored("train", 40)
    official = {
        split: (np.arange(n, dtype=np.uint8).repeat(784), (np.arange(n) % 3).astype(np.uint8)) for split, n in fashion_mnist.COUNTS.items()
    }
    digests = {split: tuple(hashlib.sha256(part).hexdigest() for part in parts) for split, parts in official.items()}
    monkeypatch.setattr(fashion_mnist, "DIGESTS", digests)
    monkeypatch.setattr(fashion_mnist, "CLASSES", ("a", "b", "c"))
    source = FashionMnist().open()
    assert source.items["test"][:, 5, 5, 0].tolist() == list(range(20))
    assert source.labels["test"].tolist() == [i % 3 for i in range(20)]
    shutil.rmtree(folder)  # It was kept as files.
    assert FashionMnist().open().fingerprint == source.fingerprint


def test_importing_datasets_and_pipeline_loads_nothing_heavy():
    program = (
        "import sys, sgdr_jax.datasets, sgdr_jax.data.load; print(sorted({'jax', 'flax', 'PIL', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
