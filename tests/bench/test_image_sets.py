"""The sets of public images: halves that share no drawing, Qt's archives read back, rare classes, several labels to a picture."""

import importlib
import io
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.datasets import CsvLabels

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of experiments/bench as the scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name in ("drawings", "packages", "photographs", "sets"):
        sys.modules.pop(name, None)


def pictures(n: int, seed: int = 0, side: int = 8) -> list[Image.Image]:
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(n)]


def test_halves_keep_the_variants_of_a_drawing_together(bench) -> None:
    packages = bench("packages")
    images = pictures(40)
    names = [f"{'abcdefghij'[i // 4]}_{i % 4:02d}" for i in range(40)]
    found = [(label, name, image) for label, part in (("x", 0), ("y", 1)) for name, image in list(zip(names, images, strict=True))[part::2]]
    dealt = list(packages.halves(found, key=packages.series))
    assert sorted(dealt, key=str) == sorted(packages.halves(found[::-1], key=packages.series), key=str)  # not by the order of the files
    sides: dict[tuple[str, str], set[str]] = {}
    for split, label, name, _ in dealt:
        sides.setdefault((label, packages.series(name)), set()).add(split)
    assert len(sides) == 20 and all(len(splits) == 1 for splits in sides.values())
    assert Counter((split, label) for split, label, *_ in dealt) == dict.fromkeys(
        (("train", "x"), ("test", "x"), ("train", "y"), ("test", "y")), 10
    )


def test_equal_pictures_are_kept_once(bench) -> None:
    image, other = pictures(2)
    dealt = list(bench("packages").halves([("x", "a", image), ("y", "b", image), ("x", "c", other)]))
    assert sorted((label, name) for _, label, name, _ in dealt) == [("x", "a"), ("x", "c")]


def archive(files: dict[str, bytes], version: int) -> bytes:
    """A Qt resource archive with one folder, laid out as Qt's rcc does."""
    names, name_at = b"", {}
    for name in ("images", *files):
        name_at[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    data, data_at = b"", {}
    for name, content in files.items():
        data_at[name] = len(data)
        data += struct.pack(">I", len(content)) + content
    late = b"\0" * 8 if version >= 2 else b""
    nodes = [struct.pack(">IHII", 0, 2, 1, 1) + late]  # the root, whose name is not told apart from that of its child
    nodes += [struct.pack(">IHII", name_at["images"], 2, len(files), 2) + late]
    nodes += [struct.pack(">IHHHI", name_at[name], 0, 0, 1, data_at[name]) + late for name in files]
    tree = b"".join(nodes)
    return struct.pack(">4s4I", b"qres", version, 20, 20 + len(tree), 20 + len(tree) + len(data)) + tree + data + names


@pytest.mark.parametrize("version", [1, 2])
def test_qt_archives_are_read(bench, tmp_path: Path, version: int) -> None:
    files = {"dam1.webp": b"water", "fisch_ü.webp": b"", "hammer.png": bytes(range(256))}
    (tmp_path / "a.rcc").write_bytes(archive(files, version))
    read = dict(bench("photographs").resources(tmp_path / "a.rcc"))
    assert {Path(path).name: content for path, content in read.items()} == files
    (tmp_path / "b.rcc").write_bytes(b"PK\3\4" + bytes(20))
    with pytest.raises(SystemExit, match="not a Qt resource archive"):
        bench("photographs").resources(tmp_path / "b.rcc")


def test_photographs_have_the_class_of_their_name(bench, tmp_path: Path) -> None:
    files = {}
    for name, image in zip(
        ("dam1.webp", "dam2.webp", "plier1.webp", "sideCutter1.webp", "geothermal.webp"), pictures(5, side=64), strict=True
    ):
        image.save(file := io.BytesIO(), "webp", lossless=True)
        files[name] = file.getvalue()
    path = tmp_path / "gcompris-qt-data/usr/share/gcompris-qt/rcc/categorization.rcc"
    path.parent.mkdir(parents=True)
    path.write_bytes(archive(files, 2))
    found = list(bench("photographs").photos(tmp_path))
    assert sorted((label, name) for _, label, name, _ in found) == [
        ("dam", "dam1"), ("dam", "dam2"), ("pliers", "plier1"), ("pliers", "sideCutter1")
    ]  # fmt: skip
    assert Counter(split for split, *_ in found) == {"train": 2, "test": 2}


def test_every_second_class_is_made_rare_in_training_only(bench) -> None:
    source = [(split, label, f"{i:02d}", pictures(1)[0]) for split in ("train", "test") for label in "abcd" for i in range(10)]
    kept = list(bench("sets").rare(source[::-1]))
    counts = Counter((split, label) for split, label, *_ in kept)
    assert [counts["train", label] for label in "abcd"] == [10, 2, 10, 2]
    assert all(counts["test", label] == 10 for label in "abcd")


def test_pictures_with_several_labels_are_a_csv_set(bench, tmp_path: Path) -> None:
    rows = [("train", "a b", "0"), ("train", "", "1"), ("train", "b", "2"), ("train", "a", "3"), ("test", "a b", "4"), ("test", "a", "5")]
    said = bench("sets").write_labels([(*row, image) for row, image in zip(rows, pictures(6), strict=True)], tmp_path / "grids")
    assert said.startswith("grids: 2 labels, 4 training and 2 test images")
    source = CsvLabels(str(tmp_path / "grids"), images="images", valid_fraction=0.25).open()
    assert source.classes == ("a", "b") and source.sizes["test"] == 2 and source.sizes["train"] + source.sizes["valid"] == 4
    assert source.labels["test"].tolist() == [[1, 1], [1, 0]]
