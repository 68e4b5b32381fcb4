"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 × 28, in ten classes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import logging
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.paths import cache_folder, expanded
from ..core.types import Dataset, Source
from ..core.validation import require
from . import tfds
from .examples import fingerprint, make_source, numbered
from .splits import check_fraction, per_class

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
COUNTS = {"train": 60_000, "test": 10_000}
# SHA-256 of the pixels and labels after decompression and without file headers, in the official order.
DIGESTS = {
    "train": (
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    "test": (
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}
# Name, bytes of the header, bytes after the header.
_FILES = {
    "train": (("train-images-idx3-ubyte.gz", 16, 784 * COUNTS["train"]), ("train-labels-idx1-ubyte.gz", 8, COUNTS["train"])),
    "test": (("t10k-images-idx3-ubyte.gz", 16, 784 * COUNTS["test"]), ("t10k-labels-idx1-ubyte.gz", 8, COUNTS["test"])),
}
_SYSTEM = Path("/usr/share/datasets/fashion-mnist")
_PACKAGE = "dataset-fashion-mnist"
_MINUTES = 10  # for one download

type Raw = dict[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class FashionMnist(Dataset):
    """Reads Fashion-MNIST with its official 10,000 test images; the validation images are a stratified part of the training images.

    Tries in order: the four files of the Debian package; a prepared TFDS folder; a download through TFDS, if tensorflow is installed;
    the Debian package, downloaded with apt-get and unpacked without root. The contents are verified, and names and order of the images
    are the same in all cases. A slow result is stored as the four files in the user's cache folder.

    Source: Xiao, Rasul & Vollgraf 2017, "Fashion-MNIST", arXiv 1708.07747.

    Example:
        >>> few = FashionMnist(train_per_class=100, valid_fraction=0.2)
        >>> few.valid_fraction
        0.2
    """

    train_per_class: int | None = None
    """Number of random images of each class for training and validation together; None: all 6,000."""
    valid_fraction: float = 0.1
    """Share of the training images held out for validation."""
    seed: int = 0
    """Seed of the selection and of the held-out split."""
    root: str | None = None
    """Folder to read from and download into; None: the usual places (/usr/share/datasets/fashion-mnist, the user's cache folder,
    TFDS_DATA_DIR or ~/tensorflow_datasets)."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)
        ok = self.train_per_class is None or 2 <= self.train_per_class <= 6000
        require(ok, "data.train_per_class", self.train_per_class, "use 2…6000, or None for all")

    def open(self) -> Source:
        """Find or download the images.

        Raises:
            InputError: no place has them; gives the reason for each.
        """
        raw = _load(self.root)
        contents = f"fashion_mnist {fingerprint([str(DIGESTS)])[:16]}"
        examples = {split: numbered(split, images, labels, contents) for split, (images, labels) in raw.items()}
        if self.train_per_class is not None:
            train = examples["train"]
            examples["train"] = train.at(per_class(train.names, train.labels, self.train_per_class, self.seed))
        return make_source(CLASSES, examples, self.valid_fraction, self.seed)


def _load(root: str | None) -> Raw:
    reasons = []
    ways: tuple[tuple[str, Callable[[str | None], Raw]], ...] = (
        ("files", _from_files),
        ("prepared TFDS folder", _from_tfds),
        ("download through TFDS", _download_tfds),
        ("download of the Debian package", _download_debian),
    )
    for name, way in ways:
        try:
            return way(root)
        except (InputError, OSError) as error:
            reasons.append(f"{name}: {' '.join(str(error).split())}")
    raise InputError("Fashion-MNIST is unavailable; " + "; ".join(reasons))


def _cache(root: str | None) -> Path:
    """Return the folder of the four files after a download."""
    return (expanded(root) if root else cache_folder()) / "fashion-mnist"


def _from_tfds(root: str | None) -> Raw:
    builder = tfds.open_builder(tfds.prepared_folder("fashion_mnist", root))
    raw = {}
    for split, count in COUNTS.items():
        images, labels = tfds.read_split(builder, split)
        require(len(labels) == count, f"the number of {split} images", len(labels), f"{count} are expected")
        official = np.argsort(_tfds_order(split, count))
        raw[split] = (np.asarray(images)[official], labels[official])
    raw = _verified(raw)
    with contextlib.suppress(OSError):
        _write_files(raw, _cache(root))
    return raw


def _write_files(raw: Raw, target: Path) -> None:
    """Write the four files: reading them takes half a second, decoding the records of TFDS half a minute."""
    target.mkdir(parents=True, exist_ok=True)
    for split, parts in _FILES.items():
        for part, (name, _, _) in zip(raw[split], parts, strict=True):
            content = part.astype(np.uint8).reshape(part.shape[:3])
            magic = struct.pack(f">{1 + content.ndim}I", 0x0800 + content.ndim, *content.shape)
            write_atomically(target / name, gzip.compress(magic + content.tobytes(), compresslevel=1))


def _tfds_order(split: str, count: int) -> list[int]:
    """Return the official numbers of the records in the order in which TFDS stores them: by MD5 of split name and number."""
    return sorted(range(count), key=lambda i: hashlib.md5(f"{split}{i}".encode(), usedforsecurity=False).digest())


def _from_files(root: str | None) -> Raw:
    places = [expanded(root), _cache(root)] if root else [_SYSTEM, _cache(root)]
    reasons = []
    for place in places:
        try:
            return _verified({split: tuple(_idx(place / name, *sizes) for name, *sizes in parts) for split, parts in _FILES.items()})
        except (InputError, OSError) as error:
            reasons.append(str(error))
    raise InputError(" and ".join(reasons))


def _idx(path: Path, header: int, size: int) -> np.ndarray:
    """Return the bytes after the header; reads no more than expected, so that a small file cannot expand into a large one."""
    try:
        with gzip.open(path) as file:
            content = file.read(header + size + 1)
    except (gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path} is damaged ({error})") from error
    require(len(content) == header + size, f"the unpacked size of {path}", len(content), f"{header + size} bytes are expected")
    return np.frombuffer(content, np.uint8, offset=header)


def _verified(raw: Raw) -> Raw:
    for split, pair in raw.items():
        for part, digest in zip(pair, DIGESTS[split], strict=True):
            actual = hashlib.sha256(part.astype(np.uint8).tobytes()).hexdigest()
            fix = f"{digest} is expected; the copy is damaged or not Fashion-MNIST"
            require(actual == digest, f"the SHA-256 of the {split} set", actual, fix)
    return {split: (images.reshape(-1, 28, 28, 1), labels.astype(np.int32)) for split, (images, labels) in raw.items()}


def _download_tfds(root: str | None) -> Raw:
    installed = importlib.util.find_spec("tensorflow") is not None
    require(installed, "tensorflow", "missing", "preparing the set needs it, pip install 'sgdr_jax[prepare]'")
    # A separate process can have a time limit and keeps TensorFlow out of this one.
    place = "" if root is None else f"data_dir={str(expanded(root))!r}, "
    program = f"import tensorflow_datasets as t; t.builder('fashion_mnist', {place}file_format='array_record').download_and_prepare()"
    _run([sys.executable, "-c", program])
    return _from_tfds(root)


def _download_debian(root: str | None) -> Raw:
    for tool in ("apt-get", "dpkg"):
        require(shutil.which(tool) is not None, tool, "missing", "this way needs Debian or Ubuntu")
    target = _cache(root)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as folder:
        work = Path(folder)
        get = ["apt-get", "-q", "-o", "Acquire::http::Timeout=30", "-o", "Acquire::Retries=2", "-o", "APT::Sandbox::User=root"]
        try:
            _run([*get, "download", _PACKAGE], work)
        except InputError:
            # The system's package lists may be empty, and only root may fill them; private lists need no rights.
            (work / "lists" / "partial").mkdir(parents=True)
            get += ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work}", "-o", "Debug::NoLocking=1"]
            _run([*get, "update"], work, check=False)  # One broken source among several does not matter: the download decides.
            _run([*get, "download", _PACKAGE], work)
        packages = list(work.glob(f"{_PACKAGE}_*.deb"))
        require(len(packages) == 1, "the number of packages that apt-get downloaded", len(packages), "one is expected")
        _run(["dpkg", "-x", str(packages[0]), str(work / "unpacked")])
        unpacked = work / "unpacked" / _SYSTEM.relative_to("/")
        raw = _from_files(str(unpacked))
        for name, _, _ in (part for parts in _FILES.values() for part in parts):
            os.replace(unpacked / name, target / name)
    return raw


def _run(command: list[str], folder: Path | None = None, check: bool = True) -> None:
    logging.getLogger(__name__).info("running %s", " ".join(command))
    try:
        done = subprocess.run(command, cwd=folder, timeout=60 * _MINUTES, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{command[0]} took more than {_MINUTES} minutes") from error
    if check and done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise InputError(f"{Path(command[0]).name} failed with exit code {done.returncode} ({lines[-1][:200]})")
