"""Sets of the TensorFlow Datasets catalogue that have been prepared already, read without TensorFlow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import require
from ..types import Dataset, InputError, Source
from . import splits

_SMALL = 96  # Images of a fixed size up to this side are read as arrays, at their own size; larger ones stay encoded until needed.


@dataclass(frozen=True)
class Tfds(Dataset):
    """A prepared TFDS set in the array_record format; prepare it once with `tfds build NAME --file_format=array_record`."""

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
                    found[split] = (items, labels, [f"{split}/{i}" for i in range(len(labels))])
        identity = [builder.info.full_name, *(repr(builder.info.splits[name]) for name in sorted(builder.info.splits))]
        return splits.make_source(list(classes), found, identity, self.valid_fraction, self.seed)


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


def find(name: str, data_dir: str | None = None, version: str | None = None) -> Path:
    """The folder of a prepared set, the newest version unless one is named. Raises InputError with the command that prepares it."""
    base = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    versions = {
        tuple(map(int, p.parent.name.split("."))): p.parent
        for p in (base / name).glob("*.*.*/dataset_info.json")
        if p.parent.name.replace(".", "").isdigit()
    }
    chosen = versions.get(max(versions, default=())) if version is None else base / name / version
    if chosen is None or not (chosen / "dataset_info.json").is_file():
        asked = name if version is None else f"{name}:{version}"
        command = f"tfds build {asked} --file_format=array_record --data_dir={base}"
        raise InputError(
            f"{asked} is not prepared in {str(base)!r}; run once: {command} (pip install 'sgdr_jax[prepare]' where it asks for tensorflow)"
        )
    info = json.loads((chosen / "dataset_info.json").read_text())
    require(
        info.get("fileFormat") == "array_record",
        f"the format of {str(chosen)!r}",
        info.get("fileFormat"),
        "prepare it with --file_format=array_record",
    )
    return chosen


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

    Labels are int32 [n] with -1 for none, or float32 [n, classes]. Raises InputError for a split that is not there.
    """
    import tensorflow_datasets

    feature, shape = builder.info.features[label], builder.info.features[image].shape
    small = None not in shape and max(shape[:2]) <= _SMALL
    decoders = None if small else {image: tensorflow_datasets.decode.SkipDecoding()}
    try:
        records = builder.as_data_source(split, decoders=decoders)
    except ValueError as error:
        raise InputError(f"{builder.info.full_name} has no split {split!r}; it has {', '.join(builder.info.splits)}") from error
    labels, images = [], np.empty((len(records) if small else 0, *shape) if small else 0, np.uint8)
    for i in range(len(records)):
        record = records[i]
        labels.append(record[label])
        if small:
            images[i] = record[image]
    items = images if small else _Encoded(records, image, np.arange(len(records)))
    if isinstance(feature, tensorflow_datasets.features.ClassLabel):
        return items, np.array(labels, np.int32)
    table = np.zeros((len(labels), len(feature.names)), np.float32)
    for i, shown in enumerate(labels):
        table[i, np.asarray(shown, int)] = 1
    return items, table


def _present(builder: Any, split: str) -> str | None:
    return split if split in builder.info.splits else None
