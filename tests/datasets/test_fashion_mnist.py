"""Fashion-MNIST from its files, a TFDS folder and the Debian package; no network."""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import FashionMnist, fashion_mnist, tfds

from .test_tfds import prepared


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
    images, _ = tfds.read_split(tfds.open_builder(tfds.prepared_folder("fashion_mnist")), "train")
    assert images[:, 0, 0, 0].tolist() == fashion_mnist._tfds_order("train", 40)
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
