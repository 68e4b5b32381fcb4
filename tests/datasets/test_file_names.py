"""Labels in file names: classes, splits, and names that do not match."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.data.gather import expand
from sgdr_jax.datasets import FileNames

from ..helpers import seeded
from .pictures import picture


def names(root: Path, *files: str, pattern: str = r"^(.+)_\d+") -> FileNames:
    for name in files:
        picture(root / name)
    return FileNames(str(root), pattern, valid_fraction=0.5)


@seeded
@given(st.dictionaries(st.text("abXY_é ", min_size=1, max_size=6).map(str.strip).filter(bool), st.integers(2, 4), min_size=2, max_size=4))
def test_each_image_has_the_class_that_its_name_was_made_of(counts):
    with tempfile.TemporaryDirectory() as folder:
        source = names(Path(folder), *(f"{name}_{i}.png" for name, n in counts.items() for i in range(n))).open()
        assert source.classes == tuple(sorted(counts))
        for split, part in source.names.items():
            assert [source.classes[i] for i in source.labels[split]] == [re.sub(r"_\d+\.png$", "", name) for name in part]
        assert sum(source.sizes.values()) == sum(counts.values())


def test_folders_named_as_splits_divide_the_images(tmp_path):
    files = ("train/a_1.png", "train/b_1.png", "Validation/more/a_2.png", "test/b_2.png", "stray_3.png")
    data = names(tmp_path, *files, pattern=r"(\w)_\d\.png$")
    source = data.open()
    assert source.names == {"train": ("train/a_1.png", "train/b_1.png"), "valid": ("Validation/more/a_2.png",), "test": ("test/b_2.png",)}
    assert source.notes == ("not part of the set: 1 file (1 images elsewhere), such as 'stray_3.png'",)
    picture(tmp_path / "val" / "a_9.png")
    with pytest.raises(InputError, match=r"folders of the split valid is \['Validation', 'val'\]; keep one of them"):
        data.open()


SPLITS = ("train/a_1.png", "train/b_1.png", "val/a_2.png", "test/more/b_2.png")


@pytest.mark.parametrize("lead", ["", "images/", "set/Images/"])
@pytest.mark.parametrize("files", [SPLITS, ("train/a_1.png", "train/b_1.png", "train/more/a_2.png")])
def test_splits_divide_the_images_below_folders_that_all_share(tmp_path, lead, files):
    """Below `images` they did not: test images were trained on."""
    source = names(tmp_path, *(lead + file for file in files), pattern=r"(\w)_\d\.png$").open()
    if files is SPLITS:
        parts = {"train": SPLITS[:2], "valid": SPLITS[2:3], "test": SPLITS[3:]}
        assert source.names == {split: tuple(lead + file for file in part) for split, part in parts.items()}
    else:
        assert source.sizes == {"train": 2, "valid": 1}
    assert source.notes == ()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ("images/train/a_1.png", "images/test/a_2.png", "b_1.png", "b_2.png"),
            r"\['images/test', 'images/train'\]; only .*'data\.root'",
        ),
        (("cats/train/a_1.png", "cats/val/a_2.png", "dogs/b_1.png"), r"\['cats/train', 'cats/val'\]"),
        (("set/a/dev/a_1.png", "set/b/train/b_1.png"), r"\['set/a/dev', 'set/b/train'\]; only folders in 'set' divide"),
        (("images/train/a_1.png", "images/train/b_1.png", "test/a_2.png"), r"\['images/train', 'test'\]"),
        (("train/train/a_1.png", "train/val/b_1.png"), r"\['train/train', 'train/val'\]; only folders in 'data\.root'"),
    ],
)
def test_splits_in_other_places_are_refused(tmp_path, files, words):
    with pytest.raises(InputError, match=rf"data\.root: folders called as splits is {words}.*; set data\.root to what holds them") as error:
        names(tmp_path, *files, pattern=r"(\w)_\d\.png$").open()
    assert "\n" not in str(error.value)


TOLD = "folders called as splits lie too deep to divide the images, such as %r"


@pytest.mark.parametrize(
    ("files", "pattern", "sizes", "told"),
    [
        ("train/train/1 train/train/2 train/bus/1 test/train/3 test/bus/2", r"([a-z]+)/\d", {"train": 2, "valid": 1, "test": 2}, []),
        ("vehicles/train/1 vehicles/train/2 vehicles/bus/1 animals/dog/1", r"([a-z]+)/\d", {"train": 3, "valid": 1}, []),
        ("train/one/1 train/one/2 train/Test/1 val/one/3", r"([A-Za-z]+)/\d", {"train": 3, "valid": 1}, [TOLD % "train/Test"]),
        ("set/a/dev/1 set/a/dev/2 set/b/1 set/b/2", r"([a-z]+)/\d", {"train": 2, "valid": 2}, [TOLD % "set/a/dev"]),
        ("dev/day/train/1 dev/day/train/2 dev/day/bus/1 dev/day/bus/2", r"([a-z]+)/\d", {"train": 2, "valid": 2}, []),
    ],
)
def test_classes_called_as_splits_are_read(tmp_path, files, pattern, sizes, told):
    """They were refused: train is a class of COCO."""
    source = names(tmp_path, *(f"{file}.png" for file in files.split()), pattern=pattern).open()
    assert source.sizes == sizes
    assert [note for note in source.notes if "no folder train" not in note] == told


def test_a_split_without_train_is_told(tmp_path):
    source = names(tmp_path, *(f"test/a_{i}.png" for i in range(2)), *(f"b_{i}.png" for i in range(2)), pattern=r"(\w)_\d\.png$").open()
    assert source.classes == ("a", "b")
    assert source.notes == ("the folder 'test' does not divide the images, since there is no folder train",)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", r"data\.pattern is ''; without class folders, give a regular expression whose first group is the class of 'a_1\.png'"),
        (r"^(.+)_2", r"2 of 4 names do not match, such as \['a_1\.png', 'b_1\.png'\]"),
        (r"^(z*)", r"4 of 4 names do not match"),
        (r"^.+_\d", r"data\.pattern is '\^\.\+_\\\\d'; put the class in parentheses"),
        (r"^(.+_\d", "not a regular expression"),
        (r"^[ab](_)", "at least two"),
    ],
)
def test_patterns_that_give_no_classes(tmp_path, pattern, words):
    with pytest.raises(InputError, match=words) as error:
        names(tmp_path, "a_1.png", "a_2.png", "b_1.png", "b_2.png", pattern=pattern).open()
    assert "\n" not in str(error.value)


def test_a_single_class_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="all images lie in the folder 'cats': add one for each other class, or give a"):
        names(tmp_path, "cats/a_1.png", "cats/a_2.png", pattern="").open()


@pytest.mark.parametrize("held", [("valid",), ("Val", "test"), ("test",)])
def test_class_folders_of_held_out_images_alone_are_told(tmp_path, held):
    """They were said not to be there."""
    made = [f"{split}/{name}/{i}.png" for split in held for name in "ab" for i in range(2)]
    fix = f"there are class folders in {' and '.join(held)}, but none in train: add it, or rename a folder to train; otherwise give a"
    with pytest.raises(InputError, match=fix):
        names(tmp_path, *made, "stray_1.png", pattern="").open()


def test_a_pattern_is_proposed_that_fits_the_name(tmp_path):
    """In folders the proposed pattern took them for a part of the class."""
    for files, words in ((("x_1.png", "y_1.png"), r"'\^\(\.\+\)_"), (("train/x_1.png", "test/x_2.png"), r"'\(\[\^/\]\+\)_")):
        with pytest.raises(InputError, match=words):
            names(tmp_path / files[0][0], *files, pattern="").open()


def test_links_to_folders_are_followed_except_in_circles(tmp_path):
    """A validation folder that was a link was ignored, and another one drawn."""
    made = [f"{split}/{name}_{i}.png" for split in ("set/train", "elsewhere") for name in "ab" for i in range(3)]
    names(tmp_path, *made)
    (tmp_path / "set" / "valid").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "train" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "train" / "self").symlink_to(".")
    source = FileNames(str(tmp_path / "set"), r"([ab])_").open()
    assert source.sizes == {"train": 6, "valid": 6} and source.notes == ()
    assert expand([str(tmp_path / "set")]) == sorted(str(tmp_path / "set" / name) for name in source.names["train"] + source.names["valid"])


def test_further_formats_are_read_where_asked_for(tmp_path):
    data = names(tmp_path, "a_1.png", "a_2.tif", "b_1.png", "b_2.png", "b_3.png")
    assert "1 .tif" in data.open().notes[0] and sum(data.open().sizes.values()) == 4
    assert sum(replace(data, formats=("tiff",)).open().sizes.values()) == 5
    with pytest.raises(InputError, match=r"data\.formats\[0\] is 'psd'; use tiff, avif or heic"):
        replace(data, formats=("psd",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no images in it"):
        FileNames(str(tmp_path / "empty"), "(a)").open()
