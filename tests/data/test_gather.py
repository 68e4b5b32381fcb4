"""Images to predict: whatever holds them is read, or one line says what to give instead."""

import io
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sgdr_jax.core.errors import InputError
from sgdr_jax.data.gather import expand, gather_images
from sgdr_jax.data.load import decode_files

from ..datasets.pictures import picture


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    return tmp_path


class Frame:
    """A column of a table of another library: an array of paths, and no sequence."""

    def __init__(self, values: list[str]):
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.values, object)


class Elsewhere:
    """An array of another library, on a device of its own."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("can't convert a tensor of cuda:0;\nuse cpu() first")


class Listed:
    """A list of another library, such as fastai's `L`."""

    def __init__(self, values: list[Any]):
        self.values = values

    def __iter__(self) -> Any:
        return iter(self.values)


def test_whatever_holds_images_is_read(folder: Path) -> None:
    paths = [str(folder / "a.png"), str(folder / "b.png")]
    for several in (
        folder,
        sorted(folder.iterdir()),
        (path for path in paths),
        map(Path, paths),
        iter(paths),
        dict.fromkeys(paths).keys(),
        np.array(paths),
        np.array([[path] for path in paths], object),
        Frame(paths),
        Listed(paths),
        tuple(paths),
    ):
        assert gather_images(several) == paths  # type: ignore[arg-type]
    assert sorted(map(str, gather_images(folder.iterdir()))) == paths == sorted(map(str, gather_images(folder.glob("*.png"))))
    assert gather_images(np.array(paths[0])) == paths[:1]


def test_arrays_of_images_are_read_wherever_they_are(folder: Path) -> None:
    four = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    for images in (four, list(four), jnp.asarray(four), [jnp.asarray(four)], [four], [four[:1], four[1]], iter(four), (x for x in [four])):
        found = gather_images(images)
        assert len(found) == 2
        for got, wanted in zip(found, four, strict=True):
            np.testing.assert_array_equal(got, wanted)  # type: ignore[arg-type]
    mixed = gather_images([folder / "a.png", four, Image.fromarray(four[0])])
    assert len(mixed) == 4 and mixed[0] == str(folder / "a.png")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "image is of type NoneType; give paths"),
        (3, "image is of type int; give paths"),
        ({"a.png"}, "images is a set, which has no order; give a list"),
        (frozenset(["a.png"]), "images is a frozenset, which has no order"),
        ({"a": "a.png"}, r"images is a dict; give its values: list\(images.values\(\)\)"),
        (b"\x89PNG", r"image is of type bytes; open it: PIL.Image.open\(io.BytesIO\(data\)\)"),
        (bytearray(b"a"), "image is of type bytearray; open it"),
        (memoryview(b"a"), "image is of type memoryview; open it"),
        (io.BytesIO(b"\x89PNG"), r"image is of type BytesIO; open it: PIL.Image.open\(file\)"),
        (io.StringIO("a.png"), "image is of type StringIO; open it"),
        (Path, "image is of type type; give paths"),
        ([None], "image 0 is of type NoneType; give paths"),
        ([["a.png"]], "image 0 is of type list; give all images in one list"),
        ([[[0, 1], [2, 3]]], "image 0 is of type list; .* pixels as an array"),
        ([{"a": 1}], "image 0 is of type dict; give paths"),
        ([np.zeros((4, 4), np.uint8), io.BytesIO(b"")], "image 1 is of type BytesIO; open it"),
        ([np.zeros((4, 4), np.uint8), b""], "image 1 is of type bytes; open it"),
        ([np.zeros((4, 4), np.uint8), np.zeros((4, 4))], "image 1 is 'an array of float64'; give uint8"),
        ([np.zeros((2, 4, 4, 4), np.uint8)], r"image 0 is 'an array of shape \(4, 4, 4\)'; give"),
        ([np.array(["a.png"])], "image 0 is 'an array of <U5'; give uint8"),
        ([Elsewhere()], "image 0 is of type Elsewhere, which cannot be read as an array .*use cpu.* first.*; give an array of NumPy"),
        (Elsewhere(), "image is of type Elsewhere, which cannot be read as an array .*; give an array of NumPy"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"image is 'an array of shape \(0, 4, 4, 3\)'; give"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), r"image is 'an array of shape \(1, 1, 4, 4, 3\)'; give"),
        (np.array([], object), "images is 'none'; name image files"),
        (iter(()), "images is 'none'; name image files"),
        ([], "images is 'none'; name image files"),
    ],
)
def test_what_is_no_image_is_named_with_what_to_give(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        gather_images(wrong)
    assert "\n" not in str(caught.value)


def reasons(images: list[Any]) -> dict[str, str]:
    return dict(decode_files(gather_images(images), 8, 3).bad)


def test_pictures_that_cannot_be_read_are_left_out_as_files_are(folder: Path) -> None:
    """A truncated, closed or unknown picture among others ended the whole prediction."""
    rng = np.random.default_rng(0)
    file = folder / "whole.jpg"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(file)
    half, data = folder / "half.jpg", file.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    closed, loaded = Image.open(file), Image.open(file)
    loaded.load()
    for each in (closed, loaded):
        each.close()
    with Image.open(file) as left:
        pass
    stream = file.open("rb")
    streamed = Image.open(stream)
    stream.close()
    deep = Image.new("F", (4, 4))
    truncated = Image.open(half)
    given = [file, truncated, closed, loaded, left, streamed, deep, Image.new("RGB", (0, 0)), Image.open(file), half]
    found = reasons(given)
    truncated.close()
    assert set(found) == {*(f"image {i}" for i in range(1, 8)), str(half)}
    assert "truncated" in found["image 1"] and "32 bits'; convert it" in found["image 6"] and "0 x 0 pixels" in found["image 7"]
    assert all(found[f"image {i}"] == "its file is closed; load() it before, or give its path" for i in range(2, 6))


MODES = "1 L P RGB RGBA CMYK YCbCr LAB HSV LA PA RGBX RGBa La I;16 I;16L I;16B I;16N".split()  # noqa: SIM905


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_all_modes_are_read(mode: str) -> None:
    assert not reasons([Image.new(mode, (9, 8))])


@pytest.mark.parametrize(("clear", "mode"), [("LA", "La"), ("RGBA", "RGBa")])
def test_colours_times_alpha_are_those_without(clear: str, mode: str) -> None:
    image = Image.new(clear, (9, 8), (100,) * (len(clear) - 1) + (128,))
    plain, other = (decode_files(gather_images([x]), 8, 3).images for x in (image, image.convert(mode)))
    np.testing.assert_allclose(plain.astype(int), other.astype(int), atol=1)
