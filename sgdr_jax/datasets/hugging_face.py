"""Local image datasets in the formats of Hugging Face `datasets`: parquet files, or the files of `save_to_disk`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import files
from .examples import Examples, Item, LazyItems, make_source
from .labels import n_hot
from .splits import check_fraction

if TYPE_CHECKING:
    import pyarrow

type Label = int | str | list[int | str] | None
"""Cell of the label column: number or name of a class, several of them, or nothing."""

_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}


@dataclass(frozen=True)
class HuggingFace(Dataset):
    """Reads a folder of parquet files, named or placed by split (`data/train-0.parquet`, `test/0.parquet`), or of `save_to_disk`.

    Uses pyarrow; the `datasets` package is not needed. Read what the hub calls an imagefolder with `ImageFolder`.

    Source: the file formats of Hugging Face `datasets`, https://huggingface.co/docs/datasets.

    Example:
        >>> beans = HuggingFace("downloads/beans", label="labels")
        >>> beans.image
        'image'
    """

    root: str = "data"
    """Folder as downloaded from the hub or written by `save_to_disk`."""
    image: str = "image"
    """Column with the images."""
    label: str = "label"
    """Column with the class (number or name), or a list of classes for multi-label data."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no split for it."""
    seed: int = 0
    """Seed of the held-out split."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Read all labels.

        Raises:
            InputError: the folder has no such files, columns are missing, or labels are invalid.
        """
        root = files.existing_folder(self.root, "data.root")
        tables = _files(root)
        present = ", ".join(sorted({split for split, _ in tables})) or "none"
        require("train" in present.split(", "), "data.root", self.root, f"needs parquet or arrow files of a split train, found {present}")
        raw: dict[str, tuple[_Rows, list[Label]]] = {}
        names: list[str] = []
        for split in ("train", "valid", "test"):
            paths = [path for s, path in tables if s == split]
            if paths:
                rows, labels, names = _read(paths, root, self.image, self.label)
                raw[split] = rows, labels
        named = bool(names)
        if not named:
            shown = {str(x) for _, labels in raw.values() for row in labels for x in (row if isinstance(row, list) else [row])}
            names = sorted(shown, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
        examples = {}
        for split, (rows, labels) in raw.items():
            numbers = _numbers(labels, names, named, split)
            if numbers is not None:
                examples[split] = Examples(rows, numbers, [f"{split}/{i}" for i in range(len(rows))], rows.ids)
        require("train" in examples, "data.label", self.label, "some training images have no label")
        return make_source(names, examples, self.valid_fraction, self.seed)


class _RowGroup(NamedTuple):
    path: Path
    number: int
    rows: int


class _Rows(LazyItems):
    """Images in a column of row groups."""

    def __init__(self, groups: list[_RowGroup], column: str, root: Path) -> None:
        self._groups, self._column, self._root = groups, column, root
        self._ends = np.cumsum([group.rows for group in groups])
        super().__init__(int(self._ends[-1]))

    @property
    def ids(self) -> list[str]:
        """Strings that change with the files, ascending with the rows, so that images in the order of ids are read file by file."""
        state = {}
        for path in {group.path for group in self._groups}:
            stat = path.stat()
            state[path] = f"{path.relative_to(self._root).as_posix()} {stat.st_size} {stat.st_mtime_ns}"
        return [f"{state[self._place(i)[0].path]} {i:09}" for i in self._where.tolist()]

    def _place(self, position: int) -> tuple[_RowGroup, int]:
        """Return the row group of a position, and the row within it."""
        number = int(np.searchsorted(self._ends, position, side="right"))
        group = self._groups[number]
        return group, position - int(self._ends[number]) + group.rows

    def read(self, position: int) -> Item:
        """Read a cell: an encoded image, or the path of an image file inside the folder."""
        group, row = self._place(position)
        cell = _table(group.path, group.number, self._column)[self._column][row].as_py()
        if isinstance(cell, dict):
            if cell.get("bytes") is None:
                place = (self._root / str(cell.get("path"))).resolve()
                if not place.is_relative_to(self._root.resolve()):
                    raise ValueError("the table names a file outside its folder instead of holding the image")
                return str(place)
            cell = cell["bytes"]
        return cell


@functools.lru_cache(maxsize=16)
def _table(path: Path, group: int, column: str) -> pyarrow.Table:
    """Return a column of a row group of a parquet file, or of a memory-mapped arrow file."""
    import pyarrow
    import pyarrow.parquet

    if path.suffix == ".arrow":
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all().select([column])
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column])


def _files(root: Path) -> list[tuple[str, Path]]:
    """Return the split and path of each file, in order."""
    located = []
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        folders = [root] if (root / "state.json").is_file() else files.subfolders(root)
        for folder in folders:
            split = "train" if folder == root else _SPLITS.get(folder.name)
            state = _json(folder / "state.json")
            located += [(split, folder / Path(str(part["filename"])).name) for part in state.get("_data_files", ()) if split]
        return located
    for path in sorted(root.rglob("*.parquet")):
        words = [path.stem.split("-")[0], path.parent.name]
        split = next((_SPLITS[word] for word in words if word in _SPLITS), "train" if path.parent == root else None)
        if split:
            located.append((split, path))
    return located


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}); save the dataset again") from error


def _read(paths: list[Path], root: Path, image: str, label: str) -> tuple[_Rows, list[Label], list[str]]:
    """Return the images and labels of some files, and the names of the classes, empty if the files do not give them."""
    import pyarrow
    import pyarrow.parquet

    groups, labels, names = [], [], []
    for path in paths:
        try:
            if path.suffix == ".arrow":
                table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
                schema, sizes = table.schema, [table.num_rows]
                column = table[label] if label in schema.names else None
            else:
                with pyarrow.parquet.ParquetFile(path) as file:
                    schema, sizes = file.schema_arrow, [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
                    column = file.read([label])[label] if label in schema.names else None
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{str(path)!r} cannot be read ({str(error).splitlines()[0]}); download it again") from error
        for field, name in (("image", image), ("label", label)):
            require(name in schema.names, f"data.{field}", name, f"{path.name} has the columns {', '.join(schema.names)}")
        assert column is not None
        labels += column.to_pylist()
        groups += [_RowGroup(path, number, rows) for number, rows in enumerate(sizes) if rows]
        names = names or _names(schema.metadata, label)
    return _Rows(groups, image, root), labels, names


def _names(metadata: dict[bytes, bytes] | None, label: str) -> list[str]:
    """Return the class names from the features in a table's metadata."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
    except (KeyError, ValueError, TypeError):
        return []
    while not (isinstance(feature, dict) and "names" in feature):
        feature = feature[0] if isinstance(feature, list) and feature else feature.get("feature") if isinstance(feature, dict) else None
        if feature is None:
            return []
    return [str(name) for name in feature["names"]]


def _numbers(labels: list[Label], names: list[str], named: bool, split: str) -> np.ndarray | None:
    """Return labels as int32 [n], or float32 [n, classes] if some are lists; None if some are missing.

    Integers are class numbers if the files give the names of the classes (`named`), else names.
    """
    number = {name: i for i, name in enumerate(names)}

    def one(value: object) -> int:
        label = value if named and isinstance(value, int) else number.get(str(value), -1)
        require(0 <= label < len(names), f"data: a label of {split}", value, f"the classes are {names[:5]}")
        return label

    if any(label is None or label == -1 for label in labels):
        return None
    if not any(isinstance(label, list) for label in labels):
        return np.array([one(label) for label in labels], np.int32)
    return n_hot([[one(value) for value in cast(list[int | str], label)] for label in labels], len(names))
