"""Contents of files: told apart whatever their names, sizes and times; read once."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.core import contents
from sgdr_jax.core.contents import content_ids
from sgdr_jax.data.load import load
from sgdr_jax.datasets import CsvLabels, HuggingFace, ImageFolder, Mix, TrainAndValid

THEN = 1_700_000_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files that are read."""
    seen, real = [], contents._digest

    def digest(path, largest):
        seen.append(os.path.basename(path))
        return real(path, largest)

    monkeypatch.setattr(contents, "_digest", digest)
    return seen


def texts(tmp_path, *contents: str) -> list[str]:
    paths = [tmp_path / f"{i}.txt" for i in range(len(contents))]
    for path, text in zip(paths, contents, strict=True):
        path.write_text(text)
        os.utime(path, (THEN, THEN))
    return [str(path) for path in paths]


def test_they_are_the_beginning_of_the_sha256(tmp_path):
    paths = texts(tmp_path, "a", "", "ccc")
    digests = [hashlib.sha256(text).hexdigest()[:16] for text in (b"a", b"", b"ccc")]
    assert content_ids(paths) == digests
    assert content_ids([*paths, str(tmp_path / "none"), str(tmp_path)], 2) == [*digests[:2], "unread", "unread", "unread"]


def test_files_are_read_once_and_again_when_they_change(tmp_path, reads, monkeypatch):
    paths = texts(tmp_path, "a", "b", "c")
    monkeypatch.setattr(contents, "_FRESH", 0)
    first = content_ids(paths)
    assert sorted(reads) == ["0.txt", "1.txt", "2.txt"]
    reads.clear()
    assert content_ids(paths) == first and not reads
    (tmp_path / "1.txt").write_text("x")
    os.utime(paths[1], (THEN, THEN))
    again = content_ids(paths)
    assert reads == ["1.txt"] and [a == b for a, b in zip(first, again, strict=True)] == [True, False, True]


def test_a_file_changed_just_before_it_was_read_is_read_again(tmp_path, reads):
    paths = texts(tmp_path, "a")
    content_ids(paths)
    content_ids(paths)
    assert len(reads) == 2


@pytest.mark.parametrize("at", [3, 130, -1])
def test_a_damaged_memory_of_files_is_not_believed(tmp_path, reads, monkeypatch, at):
    monkeypatch.setattr(contents, "_FRESH", 0)
    paths = texts(tmp_path, "a", "b")
    first = content_ids(paths)
    (place,) = (tmp_path / "cache" / "sgdr_jax" / "contents").iterdir()
    content = bytearray(place.read_bytes())
    content[at] ^= 1
    place.write_bytes(content)
    assert content_ids(paths) == first and len(reads) == 4


def pictures(root, swap: bool) -> None:
    """Images of two colours, with the same names, sizes and times whichever class has which."""
    for i in range(8):
        for name, colour in (("cat", (180, 30, 30)), ("dog", (30, 180, 30))):
            path = root / name / f"{i}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (colour[1], colour[0], colour[2]) if swap else colour).save(path)
            os.utime(path, (THEN, THEN))


def tables(root, swap: bool) -> None:
    """A parquet file that holds the same images."""
    import pyarrow
    import pyarrow.parquet

    pictures(root / "files", swap)
    paths = sorted((root / "files").rglob("*.bmp"))
    rows = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
        "label": [int(path.parent.name == "dog") for path in paths],
    }
    pyarrow.parquet.write_table(pyarrow.table(rows), root / "train.parquet", compression="none")
    os.utime(root / "train.parquet", (THEN, THEN))


def listed(root, swap: bool) -> None:
    pictures(root, swap)
    lines = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.bmp"))]
    (root / "labels.csv").write_text("\n".join(["name,label", *lines]))


SETS = {
    "folders": (pictures, lambda root: ImageFolder(str(root))),
    "csv": (listed, lambda root: CsvLabels(str(root), images="")),
    "joined": (pictures, lambda root: TrainAndValid(ImageFolder(str(root)))),
    "mixed": (pictures, lambda root: Mix((ImageFolder(str(root)), ImageFolder(str(root))))),
    "parquet": (tables, lambda root: HuggingFace(str(root))),
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("place", ["elsewhere", "in place"])
def test_sets_of_equal_names_sizes_and_times_do_not_share_pixels(tmp_path, kind, place):
    make, dataset = SETS[kind]
    means = []
    for swap in (False, True):
        root = tmp_path / (f"v{swap}" if place == "elsewhere" else "v")
        root.mkdir(exist_ok=True)
        make(root, swap)
        data = load(dataset(root).open(), canvas=8)
        cats = data.images["train"][np.flatnonzero(data.labels["train"] == 0)]
        means.append(cats.reshape(-1, 3).mean(0).tolist())
    assert means == [[180, 30, 30], [30, 180, 30]]


def test_a_set_that_is_moved_or_unpacked_again_is_not_decoded_again(tmp_path):
    pictures(tmp_path / "a", False)
    load(ImageFolder(str(tmp_path / "a")).open(), canvas=8)
    (tmp_path / "a").rename(tmp_path / "b")
    for i, path in enumerate((tmp_path / "b").rglob("*.bmp")):
        os.utime(path, (THEN + i, THEN + i))
    assert "earlier run" in load(ImageFolder(str(tmp_path / "b")).open(), canvas=8).storage_reason
