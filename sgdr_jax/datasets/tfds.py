"""Prepared datasets of the TensorFlow Datasets catalogue, read without TensorFlow."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from ..core.contents import content_ids
from ..core.errors import InputError
from ..core.files import keep_newest, replacing
from ..core.paths import cache_folder, expanded
from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import Item, Items, LazyItems, fingerprint, make_source, numbered
from .labels import n_hot
from .splits import check_fraction

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetInfo
    from tensorflow_datasets.core.decode import Decoder

_SMALL = 96
"""Images of 8 bits and one fixed size up to this side are read as arrays; others stay encoded until needed."""
_LIMIT = 8 << 30
"""Largest size in bytes of what is kept of all sets."""


@dataclass(frozen=True)
class Tfds(Dataset):
    """Reads a prepared TFDS dataset, in the format array_record or tfrecord; `sgdr-jax prepare NAME` prepares it.

    Source: the catalogue of TensorFlow Datasets, https://www.tensorflow.org/datasets.

    Example:
        >>> tuning = Tfds("eurosat/rgb", train="train[:80%]", valid="train[80%:90%]", test="train[90%:]")
        >>> tuning.label
        'label'
    """

    name: str = "oxford_iiit_pet"
    """Name in the catalogue, with the configuration if there are several: "eurosat/rgb"."""
    version: str | None = None
    """Version such as "4.0.0"; None: the newest prepared one."""
    data_dir: str | None = None
    """Folder of prepared datasets; None: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    train: str = "train"
    """Split to train on, or a slice such as "train[:80%]"."""
    valid: str | None = None
    """Split to validate on; None: "validation" if it exists and train has none of it, else a share of train is held out."""
    test: str | None = None
    """Split to test on; None: "test" if it exists, has labels, and train and valid have none of it."""
    image: str = "image"
    """Feature with the image."""
    label: str = "label"
    """Feature with the class, or with several for multi-label data."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no split for it."""
    seed: int = 0
    """Seed of the held-out split."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Read all labels.

        Raises:
            InputError: the dataset is not prepared (the command that prepares it is named), lacks a split, feature or label, holds other
                images than those of 8 or 16 bits, or the given splits share images.
        """
        builder = open_builder(prepared_folder(self.name, self.data_dir, self.version))
        features = builder.info.features
        for field, name in (("image", self.image), ("label", self.label)):
            require(name in features, f"data.{field}", name, f"{self.name} has the features {', '.join(sorted(features))}")
        _check_images(features[self.image], self.image)
        label = features[self.label]
        classes = getattr(label, "names", ())  # A sequence of class labels has the names of its inner feature.
        require(bool(classes), "data.label", self.label, f"it is {label}; a class label is needed")
        wanted = self._wanted(builder.info)
        examples, notes = {}, _unused(self.name, builder, {self.image, self.label}, list(wanted.values()))
        for split, spec in wanted.items():
            identity = _identity(builder.info, spec)
            items, labels = read_split(builder, spec, self.image, self.label, identity)
            unlabelled = bool((labels < 0).any())
            require(not unlabelled or (split == "test" and not self.test), f"data.{split}", spec, "some of its images have no label")
            if unlabelled:
                notes.append(f"{self.name}: not used: the split {spec}, since some of its images have no label")
            else:
                examples[split] = numbered(split, items, labels, f"{identity} {spec}")
        return make_source(list(classes), examples, self.valid_fraction, self.seed, notes=notes)

    def _wanted(self, info: DatasetInfo) -> dict[str, str]:
        """Return what to train, validate and test on; a split that is not given is used if those before it have none of its images."""
        wanted = {"train": self.train}
        for split, given, usual in (("valid", self.valid, "validation"), ("test", self.test, "test")):
            spec = given or (usual if usual in info.splits else "")
            shared = {other: _shared(info, spec, taken) for other, taken in wanted.items()} if spec else {}
            for other, count in shared.items():
                fix = f"{count} of its images are in data.{other}, {wanted[other]!r}, too; give slices that share none"
                require(not given or not count, f"data.{split}", spec, fix)
            if spec and not any(shared.values()):
                wanted[split] = spec
        return wanted


def _check_images(feature: Any, name: str) -> None:
    """Raise InputError unless a feature holds encoded images of 8 or 16 bits, or uint8 arrays of one size with 1 or 3 channels."""
    import tensorflow_datasets

    kind, shape = feature.np_dtype, feature.shape
    encoded = isinstance(feature, tensorflow_datasets.features.Image) and kind in (np.uint8, np.uint16)
    arrays = kind == np.uint8 and isinstance(shape, tuple) and len(shape) in (2, 3) and None not in shape and _is_grey_or_colour(shape)
    holding = f"it holds {getattr(kind, '__name__', kind)} of shape {shape}"
    require(encoded or arrays, "data.image", name, f"{holding}; name one with encoded images, or uint8 of one size and 1 or 3 channels")


def _is_grey_or_colour(shape: tuple[int | None, ...]) -> bool:
    return shape[2:] in ((), (1,), (3,))


class _Records(Protocol):
    """Records of a split, each a dictionary of features."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class _Encoded(LazyItems):
    """Encoded images of records."""

    def __init__(self, records: _Records, image: str) -> None:
        super().__init__(len(records))
        self._records, self._image = records, image

    def read(self, position: int) -> Item:
        """Read the image of a record."""
        return self._records[position][self._image]


class _TfRecords:
    """Records of a split in TFRecord files, which hold the length of each record but no index: they are scanned once."""

    def __init__(self, info: DatasetInfo, split: str, decoders: Mapping[str, Decoder] | None) -> None:
        self._info, self._decoders = info, decoders
        self._records: list[tuple[str, int, int]] = []
        for part in _parts(info, split):
            self._records += itertools.islice(_positions(part.filename), part.skip, _end(part))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        name, start, length = self._records[index]
        with open(name, "rb") as file:
            file.seek(start)
            return cast(Any, self._info.features).deserialize_example_np(file.read(length), decoders=self._decoders)


def _positions(name: str) -> Iterator[tuple[str, int, int]]:
    """Yield file, start and length of each record of a TFRecord file: 8 bytes of length, 4 of checksum, the record, 4 of checksum."""
    with open(name, "rb") as file:
        while len(head := file.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            yield name, file.tell(), length
            file.seek(length + 4, os.SEEK_CUR)


def prepared_folder(name: str, data_dir: str | None = None, version: str | None = None) -> Path:
    """Return the folder of a prepared dataset, of the newest version unless one is given.

    Raises:
        InputError: the dataset is not prepared; names the command that prepares it.
    """
    base = _root(data_dir)
    versions = {
        tuple(map(int, p.parent.name.split("."))): p.parent
        for p in (base / name).glob("*.*.*/dataset_info.json")
        if p.parent.name.replace(".", "").isdigit()
    }
    folder = versions.get(max(versions, default=())) if version is None else base / name / version
    if folder is None or not (folder / "dataset_info.json").is_file():
        wanted = name if version is None else f"{name}:{version}"
        option = "" if data_dir is None else f" --data-dir {data_dir}"
        raise InputError(f"{wanted} is not prepared in {str(base)!r}; run once: sgdr-jax prepare {wanted}{option}")
    info = json.loads((folder / "dataset_info.json").read_text())
    known = ("array_record", "tfrecord", None)  # None: prepared before the format was recorded
    require(info.get("fileFormat") in known, f"the format of {str(folder)!r}", info.get("fileFormat"), "prepare it with sgdr-jax prepare")
    return folder


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Download and prepare a dataset of the catalogue, unless it is prepared already.

    Args:
        name: "NAME", "NAME/CONFIG" or "NAME:VERSION".
        data_dir: folder of prepared datasets; None: TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Returns:
        The folder of the dataset.

    Raises:
        InputError: the catalogue has no such dataset, or preparation fails.
    """
    bare, _, version = name.partition(":")
    with contextlib.suppress(InputError):
        return prepared_folder(bare, data_dir, version or None)
    try:
        import tensorflow_datasets

        base = str(_root(data_dir))
        builder = tensorflow_datasets.builder(name, data_dir=base, file_format="array_record")
        builder.download_and_prepare()
    except ImportError as error:
        raise InputError(f"preparing {name} needs {error.name or error}; pip install 'sgdr_jax[prepare]', and run this again") from error
    except Exception as error:  # Builders run arbitrary code and fail in any way, mostly for lack of a network.
        raise InputError(f"{name} cannot be prepared ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]})") from error
    return prepared_folder(bare, data_dir, version or None)


def _root(data_dir: str | None) -> Path:
    return expanded(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def open_builder(folder: Path) -> Any:
    """Return the read-only TFDS builder of a prepared dataset.

    Raises:
        InputError: TFDS is missing or cannot read the folder.
    """
    try:
        import tensorflow_datasets

        return tensorflow_datasets.builder_from_directory(str(folder))
    except (ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(
            f"{str(folder)!r} cannot be read by tensorflow_datasets ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def read_split(
    builder: Any, split: str, image: str = "image", label: str = "label", identity: str | None = None
) -> tuple[Items, np.ndarray]:
    """Read a split in stored order; keeps what had to be read of every record in the cache folder.

    Args:
        builder: see `open_builder`.
        split: name or slice of a split.
        image: feature with the image.
        label: feature with the class or the classes.
        identity: what `_identity` returns, which reads all files; None: it is called.

    Returns:
        Images, uint8 [n, h, w, c] if they are small and of one size, else encoded; and labels, int32 [n] with -1 for none, or
        float32 [n, classes].

    Raises:
        InputError: there is no such split.
    """
    import tensorflow_datasets

    info = builder.info
    feature, shape = info.features[label], info.features[image].shape
    small = None not in shape and max(shape[:2]) <= _SMALL and _is_grey_or_colour(shape) and info.features[image].np_dtype == np.uint8
    decoders = None if small else {image: tensorflow_datasets.decode.SkipDecoding()}
    identity = identity or _identity(info, split)
    if info.as_proto.file_format == "array_record":
        records = builder.as_data_source(split, decoders=decoders)
    else:
        records = _TfRecords(info, split, decoders)
    key = fingerprint([identity, split, image, label])
    images, labels = _cached(cache_folder() / "tfds" / f"{key[:20]}.npz", lambda: _read(records, image, label, shape if small else None))
    items = images if small else _Encoded(records, image)
    if isinstance(feature, tensorflow_datasets.features.ClassLabel):
        return items, labels[:, 0].astype(np.int32)
    return items, n_hot([shown[shown >= 0] for shown in labels], len(feature.names))


def _read(records: _Records, image: str, label: str, shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return images [n, *shape] if a shape is given, and labels int64 [n, most labels of a record], padded with -1."""
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


def _identity(info: DatasetInfo, split: str) -> str:
    """Identify a split of a prepared dataset by its name and a hash of its description, features, names of classes and records.

    A description has the bytes and lengths of all files, but sets may differ in what these hold: labels in another order, say.

    Raises:
        InputError: there is no such split.
    """
    folder = Path(info.data_dir)
    about = [folder / name for name in ("dataset_info.json", "features.json") if (folder / name).is_file()]
    records = dict.fromkeys(str(part.filename) for part in _parts(info, split))
    contents = content_ids([*map(str, (*about, *sorted(folder.glob("*.labels.txt")))), *records])
    return f"{info.full_name} {fingerprint(contents)[:16]}"


def _cached(path: Path, compute: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pair of arrays stored in a file; computes and stores it, and makes room for it, if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        with contextlib.suppress(OSError):  # owned by another user
            os.utime(path)  # the least recently used are removed first
        return archive["images"], archive["labels"]
    images, labels = compute()
    with contextlib.suppress(OSError):  # With a full or read-only disk the next run computes them again.
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, images=images, labels=labels)
        keep_newest(path.parent, _LIMIT)
    return images, labels


def _shared(info: DatasetInfo, one: str, other: str) -> int:
    """Count the images that two splits or slices have in common. Raises InputError if there is no such split."""
    others = dict[str, list[Any]]()
    for part in _parts(info, other):
        others.setdefault(part.filename, []).append(part)
    parts = ((a, b) for a in _parts(info, one) for b in others.get(a.filename, ()))
    return sum(max(min(_end(a), _end(b)) - max(a.skip, b.skip), 0) for a, b in parts)


def _parts(info: DatasetInfo, split: str) -> Sequence[Any]:
    """Return the parts of files that a split or slice consists of. Raises InputError if there is no such split."""
    try:
        return info.splits[split].file_instructions
    except (ValueError, KeyError) as error:
        raise InputError(f"{info.full_name} has no split {split!r}; it has {', '.join(info.splits)}") from error


def _end(part: Any) -> int:
    """Return the number of the first example of a file after those of a part."""
    return part.examples_in_shard if part.take in (-1, None) else part.skip + part.take


def _unused(name: str, builder: Any, features: set[str], specs: list[str]) -> list[str]:
    """Return a line about the features and splits of a dataset that are not used; none if all are."""
    used = {part.split("[")[0].strip() for spec in specs for part in spec.split("+")}
    rest = {"feature": sorted(set(builder.info.features) - features), "split": sorted(set(builder.info.splits) - used)}
    if "all" in used:
        rest["split"] = []
    parts = [f"the {kind}{'s' * (len(names) > 1)} {', '.join(names)}" for kind, names in rest.items() if names]
    return [f"{name}: not used: {', '.join(parts)}"] if parts else []
