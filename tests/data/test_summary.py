"""`sgdr-jax data`: counts, sizes, duplicates by content, rejected files."""

import numpy as np
from PIL import Image

from sgdr_jax.cli import main
from sgdr_jax.data.load import load
from sgdr_jax.data.summary import summarize
from sgdr_jax.datasets import Arrays, ImageFolder
from sgdr_jax.report.run_tables import dataset_tables

FILE = """
from sgdr_jax import Experiment, Stage
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models import ResNet18
from sgdr_jax.schedules import Constant
experiment = Experiment("e", ImageFolder({root!r}), ResNet18(), (Stage("a", size=8, lr=0.1, schedule=Constant(1)),))
"""


def photos(root):
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("valid", 6)):
        for i in range(n):
            path = root / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(path)
    copies = {"train/a/0.png": ("valid/a/copy.png", "train/b/other.png"), "train/a/2.png": ("train/a/twice.png",)}
    for name, targets in copies.items():
        for target in targets:
            (root / target).write_bytes((root / name).read_bytes())
    (root / "train/b/broken.png").write_bytes(b"nothing")


def test_findings(tmp_path):
    photos(tmp_path)
    source = ImageFolder(str(tmp_path)).open()
    found = summarize(source, load(source, canvas=8, max_bad_share=1))
    assert {split: numbers.tolist() for split, numbers in found.counts.items()} == {"train": [7, 7], "valid": [4, 3]}
    assert found.sizes == ((30, 20), (30, 23), (30, 31))
    assert found.across_splits == (("train: train/a/0.png", "valid: valid/a/copy.png", "train: train/b/other.png"),)
    assert found.conflicting == (("train: train/a/0.png", "train: train/b/other.png", "valid: valid/a/copy.png"),)
    assert found.within_split == 2
    assert found.unreadable == (("train/b/broken.png", "not an image in one of the formats BMP, GIF, JPEG, PNG, WEBP"),)


def test_arrays_have_digests_too():
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 8), np.uint8)
    images[5] = images[0]
    source = Arrays.of((images, np.arange(6) % 2), (images[1:3], [1, 0])).open()
    found = summarize(source, load(source, canvas=8))
    assert found.sizes == ((8, 9),) * 3
    assert found.within_split == 1 and found.conflicting == (("train: train/0", "train: train/5"),)
    assert [group[1] for group in found.across_splits] == ["valid: valid/0", "valid: valid/1"]


def test_sizes_are_those_of_images(tmp_path):
    """Widths and heights were ordered apart, which gave sizes that no image has."""
    sizes = [(1, 60), (600, 20), (30, 30), (60, 1), (30, 31)]
    for i, size in enumerate(sizes):
        for split in ("train", "valid"):
            path = tmp_path / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(path)
    source = ImageFolder(str(tmp_path)).open()
    found = summarize(source, load(source, canvas=8))
    assert found.sizes == ((1, 60), (30, 30), (600, 20))


def test_labels_are_not_counted_as_images():
    pixels, labels = np.zeros((4, 8, 8), np.uint8), np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], np.float32)
    for several in (True, False):
        given = labels if several else np.arange(4) % 3
        source = Arrays.of((pixels, given), (pixels[:2], given[:2])).open()
        found = summarize(source, load(source, canvas=8))
        assert found.images == {"train": 4, "valid": 2}
        table = dataset_tables(found, source.classes)[0]
        rows = list(zip(*(column.cells for column in table.columns), strict=True))  # pyright: ignore[reportAttributeAccessIssue]
        assert rows[3:] == ([("all labels", "6", "5"), ("images", "4", "2")] if several else [("all classes", "4", "2")])


def test_command(tmp_path, capsys):
    photos(tmp_path / "photos")
    file, rejected = tmp_path / "e.py", tmp_path / "rejected.tsv"
    file.write_text(FILE.format(root=str(tmp_path / "photos")))
    (tmp_path / "photos" / "train" / "stray.png").write_bytes(b"")
    main.main(["data", str(file), "--rejected", str(rejected)])
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("not part of the set: 1 file (1 images elsewhere), such as 'train/stray.png'") == 1
    for words in (
        "all classes 14 7",
        "by area: smallest 30 × 20",
        "the same pixels in several splits: 1 group, 3 images train: train/a/0.png, valid: valid/a/copy.png, train: train/b/other.png",
        "the same pixels with different labels: 1 group, 3 images",
        "train: train/a/0.png, train: train/b/other.png",
        "unreadable files: 1 train/b/broken.png: not an image",
    ):
        assert words in out, out
    assert rejected.read_text().startswith("train/b/broken.png\tnot an image")
    main.main(["plan", str(file)])
    assert "images: 22 of at most 10 px in three channels, 6.45 KiB; resident where a device has" in capsys.readouterr().out.replace(
        "\n", " "
    )
