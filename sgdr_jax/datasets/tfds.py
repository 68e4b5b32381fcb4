"""Sets of the TensorFlow Datasets catalogue, read without TensorFlow once they have been prepared."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.files import replacing
from ..core.paths import cache_folder
from ..core.types import Dataset, Source
from ..core.validation import require
from . import splits

_SMALL = 96  # Images of a fixed size up to this side are read as arrays, at their own size; larger ones stay encoded until needed.


@dataclass(frozen=True)
class Tfds(Dataset):
    """A prepared TFDS set, in the format array_record or tfrecord; `sgdr-jax prepare NAME` prepares it."""

    name: str = "oxford_iiit_pet"
    """Name in the catalogue, with the configuration where there are several: "eurosat/rgb"."""
    version: str | None = None
    """Version such as "4.0.0"; None: the newest that is prepared."""
    data_dir: str | None = None
    """Folder of prepared sets; None: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    train: str = "train"
    """Split to train on; slices such as "train[:80%]" work."""
    valid: str | None = None
    """Split to validate on; None: "validation" where there is one, else a share of train is held out."""
    test: str | None = None
    """Split to test on; None: "test" where there is one with labels."""
    image: str = "image"
    """Name of the feature with the image."""
    label: str = "label"
    """Name of the feature with the class, or with several for multi-label data."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, where there is no split for it."""
    seed: int = 0
    """Decides which images are held out."""

    def __post_init__(self) -> None:
        splits.check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Reads all labels. Raises InputError, with the command that prepares the set, where it is not prepared."""
        builder = builder_in(find(self.name, self.data_dir, self.version))
        features = builder.info.features
        for field, name in (("image", self.image), ("label", self.label)):
            require(name in features, f"data.{field}", name, f"{self.name} has the features {', '.join(sorted(features))}")
        label = features[self.label]
        classes = getattr(label, "names", ())  # A sequence of class labels hands on the names of its inner feature.
        require(bool(classes), "data.label", self.label, f"it is {label}; a class label is needed")
        wanted = {
            "train": self.train,
            "valid": self.valid or _present(builder, "validation"),
            "test": self.test or _present(builder, "test"),
        }
        found = {}
        for split, spec in wanted.items():
            if spec:
                items, labels = read(builder, spec, self.image, self.label)
                unlabelled = bool((labels < 0).any())
                require(not unlabelled or (split == "test" and not self.test), f"data.{split}", spec, "some of its images have no label")
                if not unlabelled:
                    found[split] = splits.numbered(split, items, labels, f"{_identity(builder.info)} {spec}")
        return splits.make_source(list(classes), found, self.valid_fraction, self.seed)


class _Encoded(Sequence[bytes]):
    """Encoded images of a data source, each read when asked for; an index array gives a part of them."""

    def __init__(self, records: Any, image: str, where: np.ndarray) -> None:
        self._records, self._image, self._where = records, image, where

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, np.ndarray):
            return _Encoded(self._records, self._image, self._where[index])
        return self._records[int(self._where[index])][self._image]


class _TfRecords(Sequence[Any]):
    """The examples of a split in TFRecord files, which say of each record how long it is, but not where: they are gone through once."""

    def __init__(self, info: Any, split: str, decoders: Any) -> None:
        self._info, self._decoders = info, decoders
        self._records: list[tuple[str, int, int]] = []
        for part in info.splits[split].file_instructions:
            count = part.examples_in_shard if part.take in (-1, None) else part.take
            self._records += itertools.islice(_positions(part.filename), part.skip, part.skip + count)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        name, start, length = self._records[index]
        with open(name, "rb") as file:
            file.seek(start)
            return self._info.features.deserialize_example_np(file.read(length), decoders=self._decoders)


def _positions(name: str) -> Iterator[tuple[str, int, int]]:
    """File, start and length of each record of a TFRecord file: eight bytes of length, four of checksum, the record, four of checksum."""
    with open(name, "rb") as file:
        while len(head := file.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            yield name, file.tell(), length
            file.seek(length + 4, os.SEEK_CUR)


def find(name: str, data_dir: str | None = None, version: str | None = None) -> Path:
    """The folder of a prepared set, the newest version unless one is named. Raises InputError with the command that prepares it."""
    base = _base(data_dir)
    versions = {
        tuple(map(int, p.parent.name.split("."))): p.parent
        for p in (base / name).glob("*.*.*/dataset_info.json")
        if p.parent.name.replace(".", "").isdigit()
    }
    chosen = versions.get(max(versions, default=())) if version is None else base / name / version
    if chosen is None or not (chosen / "dataset_info.json").is_file():
        asked = name if version is None else f"{name}:{version}"
        place = "" if data_dir is None else f" --data-dir {data_dir}"
        raise InputError(f"{asked} is not prepared in {str(base)!r}; run once: sgdr-jax prepare {asked}{place}")
    info = json.loads((chosen / "dataset_info.json").read_text())
    known = ("array_record", "tfrecord", None)  # None: sets prepared before the format was written down
    require(info.get("fileFormat") in known, f"the format of {str(chosen)!r}", info.get("fileFormat"), "prepare it with sgdr-jax prepare")
    return chosen


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Downloads and prepares a set of the catalogue, "NAME", "NAME/CONFIG" or "NAME:VERSION", unless it is prepared already.

    Returns its folder. Raises InputError where the catalogue does not know it, or something is missing to prepare it.
    """
    bare, _, version = name.partition(":")
    with contextlib.suppress(InputError):
        return find(bare, data_dir, version or None)
    try:
        import tensorflow_datasets

        base = str(_base(data_dir))
        builder = tensorflow_datasets.builder(name, data_dir=base, file_format="array_record")
        builder.download_and_prepare()
    except ImportError as error:
        raise InputError(f"preparing {name} needs {error.name or error}; pip install 'sgdr_jax[prepare]', and run this again") from error
    except Exception as error:  # Builders are other people's programs: they fail in any way, mostly for want of a network.
        raise InputError(f"{name} cannot be prepared ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]})") from error
    return find(bare, data_dir, version or None)


def _base(data_dir: str | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def builder_in(folder: Path) -> Any:
    """The read-only TFDS builder of a prepared set. Raises InputError where TFDS is missing or cannot read the folder."""
    try:
        import tensorflow_datasets

        return tensorflow_datasets.builder_from_directory(str(folder))
    except (ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(
            f"{str(folder)!r} cannot be read by tensorflow_datasets ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def read(builder: Any, split: str, image: str = "image", label: str = "label") -> tuple[Any, np.ndarray]:
    """Images and labels of a split in stored order: uint8 [n, h, w, c] for small images of one size, else encoded images.

    Labels are int32 [n] with -1 for none, or float32 [n, classes]. What had to be read of every record is kept in the cache folder.
    Raises InputError for a split that is not there.
    """
    import tensorflow_datasets

    info = builder.info
    feature, shape = info.features[label], info.features[image].shape
    small = None not in shape and max(shape[:2]) <= _SMALL
    decoders = None if small else {image: tensorflow_datasets.decode.SkipDecoding()}
    try:
        if info.as_proto.file_format == "array_record":
            records = builder.as_data_source(split, decoders=decoders)
        else:
            records = _TfRecords(info, split, decoders)
    except (ValueError, KeyError) as error:
        raise InputError(f"{info.full_name} has no split {split!r}; it has {', '.join(info.splits)}") from error
    key = splits.fingerprint([_identity(info), split, image, label])
    images, labels = _kept(cache_folder() / "tfds" / f"{key[:20]}.npz", lambda: _read(records, image, label, shape if small else None))
    items = images if small else _Encoded(records, image, np.arange(len(records)))
    if isinstance(feature, tensorflow_datasets.features.ClassLabel):
        return items, labels[:, 0].astype(np.int32)
    table = np.zeros((len(labels), len(feature.names)), np.float32)
    for row, shown in zip(table, labels, strict=True):
        row[shown[shown >= 0]] = 1
    return items, table


def _read(records: Sequence[Any], image: str, label: str, shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, *shape] where a shape is given, and labels int64 [n, the most that a record has], filled up with -1."""
    images, labels = np.empty((len(records), *(shape or (0,))), np.uint8), []
    for i in range(len(records)):
        record = records[i]
        labels.append(np.asarray(record[label], np.int64).reshape(-1))
        if shape:
            images[i] = record[image]
    table = np.full((len(labels), max(map(len, labels), default=1) or 1), -1, np.int64)
    for row, shown in zip(table, labels, strict=True):
        row[: len(shown)] = shown
    return images, table


def _identity(info: Any) -> str:
    """Tells a prepared set from every other: its name, and a hash of its description, which has the bytes and lengths of all its files."""
    text = Path(info.data_dir, "dataset_info.json").read_text(encoding="utf-8")
    return f"{info.full_name} {splits.fingerprint([text])[:16]}"


def _kept(path: Path, compute: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The pair of arrays kept in a file, computed and kept where it is not there or damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        return archive["images"], archive["labels"]
    images, labels = compute()
    with contextlib.suppress(OSError):  # A full or forbidden disk costs the next run some time.
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, images=images, labels=labels)
    return images, labels


def _present(builder: Any, split: str) -> str | None:
    return split if split in builder.info.splits else None
