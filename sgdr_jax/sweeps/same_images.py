"""Whether the runs of a sweep have the same images: runs of other ones cannot be compared."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.json_files import read_json
from ..core.serialization import to_json
from ..core.types import Dataset
from ..data.load import Data
from ..runs.data_index import FILE, DataIndex, changes, data_index, read_index


def images_changed(folder: Path, dataset: Dataset, data: Data) -> str:
    """Describe how images differ from those that the earlier runs of a sweep with this dataset began with; "" if not at all.

    Names, classes and splits are compared, not pixels: runs may store them in other sizes, and hosts have other decoders.

    Args:
        folder: folder of the sweep.
        dataset: where the images come from.
        data: as loaded now.
    """
    described = to_json(dataset)
    known = (_index(own) for own in sorted(folder.glob("runs/*")) if _dataset(own) == described)
    before = next((index for index in known if index), None)
    return "; ".join(changes(before, data_index(data), pixels=False)) if before else ""


def same_training_images(folder: Path, other: Path) -> bool:
    """Return whether two runs have trained on images of the same names and classes, as far as they have recorded it.

    True where they were to have different ones, since an arm may set other data.

    Args:
        folder: run folder.
        other: that of the other run.
    """
    files = [each / FILE for each in (folder, other)]
    if not all(file.exists() for file in files) or files[0].read_bytes() == files[1].read_bytes():
        return True
    one, two = _index(folder), _index(other)
    return _dataset(folder) != _dataset(other) or one is None or two is None or _training_images(one) == _training_images(two)


def _training_images(index: DataIndex) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return the names of the classes, and names and classes of the training images."""
    return index["classes"], sorted(zip(index["names"]["train"], index["labels"]["train"], strict=True))


def _index(folder: Path) -> DataIndex | None:
    """Return the images of a run; None where they cannot be read."""
    with contextlib.suppress(InputError):
        return read_index(folder)
    return None


def _dataset(folder: Path) -> Any:
    """Return the dataset of a run as JSON data; None where it cannot be read."""
    with contextlib.suppress(InputError):
        return (read_json(folder / "config.json", dict[str, Any], "") or {}).get("data")
    return None
