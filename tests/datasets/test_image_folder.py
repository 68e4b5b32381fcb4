"""One folder per class: splits, classes, ignored files, messages. Also covers datasets/files."""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import FileNames, ImageFolder

from ..helpers import seeded
from .pictures import picture, tree


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


def test_what_is_not_read_is_told(tmp_path):
    tree(tmp_path, {"train/a": 2, "train/b": 2, "valid/a": 1, "valid/b": 1})
    assert ImageFolder(str(tmp_path)).open().notes == ()
    tree(tmp_path, {"train": 1, "valid": 2, "train/a/more": 1, "test": 3, "extra/x": 1})
    (tmp_path / "train" / "b" / "scan.tif").write_bytes(b"")
    (tmp_path / "train" / "b" / "raw").write_bytes(b"")
    picture(tmp_path / "train" / "b" / ".hidden.png")
    source = ImageFolder(str(tmp_path)).open()
    assert source.sizes == {"train": 4, "valid": 2}
    rest = "8 images elsewhere, 1 .tif, 1 hidden images, 1 without extension"
    wanted = f"not part of the set: 11 files ({rest}), such as 'extra/x/00.png'"
    assert source.notes == (wanted,)


def test_hidden_copies_are_told_but_not_what_macos_writes(tmp_path):
    tree(tmp_path, {"a": 2, "b": 2, "__MACOSX/a": 2})
    (tmp_path / "a" / "._00.png").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert ImageFolder(str(tmp_path), 0.5).open().notes == ()
    tree(tmp_path, {".a": 2, "a/.ipynb_checkpoints": 1})
    assert ImageFolder(str(tmp_path), 0.5).open().notes == ("not part of the set: 3 files (3 hidden images)",)


@pytest.mark.parametrize("valid", ["valid", "val", "Validation"])
def test_a_validation_folder_without_class_folders_is_refused(tmp_path, valid):
    tree(tmp_path, {"train/a": 2, "train/b": 2, valid: 3})
    with pytest.raises(InputError, match=rf"{valid}.*3 images in no class folder"):
        ImageFolder(str(tmp_path)).open()


def test_folders_named_as_splits_are_classes_only_if_nothing_else_is_meant(tmp_path):
    source = ImageFolder(str(tree(tmp_path / "one", {"plane": 2, "train": 2}))).open()
    assert source.classes == ("plane", "train") and any("'train' is taken for a class" in note for note in source.notes)
    for names in (("train", "valid"), ("Train", "test", "cat"), ("training", "testing")):
        root = tree(tmp_path / "-".join(names), dict.fromkeys(names, 3))
        with pytest.raises(InputError, match="no class folders"):
            ImageFolder(str(root)).open()


@pytest.mark.parametrize(
    ("train", "valid", "test"), [("training", "dev", "testing"), ("Train", "VAL", "Test"), ("TRAINING", "validation", "test")]
)
def test_split_folders_have_several_names(tmp_path, train, valid, test):
    root = tree(tmp_path, {f"{split}/{name}": n for split, n in ((train, 3), (valid, 2), (test, 1)) for name in "ab"})
    assert ImageFolder(str(root)).open().sizes == {"train": 6, "valid": 4, "test": 2}
    assert FileNames(str(root), r"([ab])/").open().sizes == {"train": 6, "valid": 4, "test": 2}


def test_images_one_folder_deeper_are_named(tmp_path):
    tree(tmp_path, {"a": 2, "b/images": 2})
    with pytest.raises(InputError, match=r"without images is \['b'\]; .*'b/images/00.png' lies deeper"):
        ImageFolder(str(tmp_path)).open()


def test_class_folders_in_two_unicode_forms_are_one(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    tree(tmp_path / "flat", {composed: 2, "x": 2})
    for i in range(2):
        picture(tmp_path / "flat" / decomposed / f"more{i}.png")
    source = ImageFolder(str(tmp_path / "flat"), 0.5).open()
    assert source.classes == (composed, "x") and sum(source.sizes.values()) == 6
    assert [composed in note for note in source.notes] == [True]
    tree(tmp_path / "splits", {f"train/{decomposed}": 2, "train/x": 2, f"valid/{composed}": 1, "valid/x": 1})
    source = ImageFolder(str(tmp_path / "splits")).open()
    assert source.classes == (composed, "x") and source.labels["valid"].tolist() == [0, 1]
    alone = ImageFolder(str(tree(tmp_path / "alone", {decomposed: 2, "x": 2})), 0.5).open()
    assert alone.classes == (decomposed, "x") and alone.notes == ()


def test_a_set_inside_another_folder_is_found_by_the_message(tmp_path):
    tree(tmp_path, {"photos/a": 2, "photos/b": 2})
    with pytest.raises(InputError, match=rf"set data.root to '{tmp_path}/photos'"):
        ImageFolder(str(tmp_path)).open()
    tree(tmp_path / "x" / "set", {"train/a": 2, "train/b": 2, "valid/a": 1})
    with pytest.raises(InputError, match=rf"set data.root to '{tmp_path}/x/set'"):
        ImageFolder(str(tmp_path / "x")).open()


def test_a_validation_folder_without_images_is_told(tmp_path):
    tree(tmp_path, {"train/a": 2, "train/b": 2})
    (tmp_path / "valid").mkdir()
    wanted = "no images in class folders of 'valid', so a share of the training images is held out"
    assert ImageFolder(str(tmp_path), 0.5).open().notes == (wanted,)
    (tmp_path / "valid" / "a.heic").write_bytes(b"")
    assert ImageFolder(str(tmp_path), 0.5).open().notes == (wanted, "not part of the set: 1 file (1 .heic)")


FILES = st.sampled_from(["0.png", "1.JPG", "2.tif", "3", "4.heic", ".5.png", "cafe\u0301.png", "caf\u00e9.png"])
FLAT = st.sampled_from(["", "a", "b", "a/d", "a/d/e", ".old/a", "train", "valid"])
DIVIDED = st.sampled_from(
    ["", "extra", "extra/a", "train", "train/a", "train/a/c", "valid", "valid/a", "Val/b", "test", "test/a", ".old/a"]
)


@settings(seeded, max_examples=300)
@given(
    st.one_of(*(st.tuples(st.just(base), st.sets(st.tuples(more, FILES), max_size=6)) for base, more in (("", FLAT), ("train/", DIVIDED))))
)
def test_every_file_is_used_or_told_or_the_set_is_refused(given_set):
    base, places = given_set
    names = {f"{base}{name}/x{i}.png" for name in "ab" for i in range(2)} | {f"{folder}/{file}".lstrip("/") for folder, file in places}
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            Path(root, name).parent.mkdir(parents=True, exist_ok=True)
            Path(root, name).touch()
        try:
            source = ImageFolder(root).open()
        except InputError as error:
            assert "\n" not in str(error)
            return
        used = {name for split in source.names.values() for name in split}
        hidden = {name for name in names if any(part.startswith(".") for part in name.split("/"))}
        rest = {name for name in names - used if name not in hidden or name.lower().endswith((".png", ".jpg"))}
        told = [int(found[1]) for note in source.notes if (found := re.match(r"not part of the set: (\d+) file", note))]
        assert sum(told) == len(rest)
        assert used <= names and not used & hidden
        if base and any(re.match("(?i)val", name) and name in (used | rest) - hidden and name.endswith(("png", "JPG")) for name in names):
            assert all(name.lower().startswith("val") for name in source.names["valid"])
