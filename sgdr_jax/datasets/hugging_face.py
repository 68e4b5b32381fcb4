"""Image sets as Hugging Face's `datasets` keeps them in a local folder: parquet files, or what `save_to_disk` writes."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import files, splits

_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}


@dataclass(frozen=True)
class HuggingFace(Dataset):
    """A folder of parquet files named or placed by split (`data/train-00000-of-00002.parquet`, `test/0.parquet`), or of `save_to_disk`.

    Read with pyarrow; the `datasets` package is not needed. What the hub calls an imagefolder is read by `ImageFolder`.
    """

    root: str = "data"
    """The folder, as downloaded from the hub or written by `save_to_disk`."""
    image: str = "image"
    """Column with the images."""
    label: str = "label"
    """Column with the class (number or name), or a list of them for multi-label data."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, where there is no split for it."""
    seed: int = 0
    """Decides which images are held out."""

    def __post_init__(self) -> None:
        splits.check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Reads all labels. Raises InputError for a folder without such files, columns that are missing, and labels that do not fit."""
        root = files.folder(self.root, "data.root")
        tables = _files(root)
        there = ", ".join(sorted({split for split, _ in tables})) or "none"
        require("train" in there, "data.root", self.root, f"needs parquet or arrow files of a split train, found {there}")
        raw: dict[str, tuple[_Rows, list[Any]]] = {}
        names: list[str] = []
        for split in ("train", "valid", "test"):
            paths = [path for s, path in tables if s == split]
            if paths:
                rows, labels, names = _read(paths, root, self.image, self.label)
                raw[split] = rows, labels
        known = bool(names)
        if not known:
            shown = {str(x) for _, labels in raw.values() for row in labels for x in (row if isinstance(row, list) else [row])}
            names = sorted(shown, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
        found = {}
        for split, (rows, labels) in raw.items():
            numbers = _numbers(labels, names, known, split)
            if numbers is not None:
                found[split] = splits.Examples(rows, numbers, [f"{split}/{i}" for i in range(len(rows))], rows.ids)
        require("train" in found, "data.label", self.label, "some training images have no label")
        return splits.make_source(names, found, self.valid_fraction, self.seed)


class _Rows(Sequence[bytes]):
    """The images in some rows of tables, read when asked for; an index array gives some of them."""

    def __init__(self, parts: list[tuple[Path, int, int]], column: str, root: Path, where: np.ndarray | None = None) -> None:
        self._parts, self._column, self._root = parts, column, root  # parts: file, number of its row group, rows
        self._ends = np.cumsum([rows for _, _, rows in parts])
        self._where = np.arange(self._ends[-1]) if where is None else where

    def __len__(self) -> int:
        return len(self._where)

    @property
    def ids(self) -> list[str]:
        """Change with the files; in the order of the rows, so that rows read in their order are read file by file."""
        state = {}
        for path, _, _ in self._parts:
            stat = path.stat()
            state[path] = f"{path.relative_to(self._root).as_posix()} {stat.st_size} {stat.st_mtime_ns}"
        return [f"{state[self._parts[p][0]]} {i:09}" for i in self._where.tolist() for p in [self._place(i)[0]]]

    def _place(self, row: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return part, row - int(self._ends[part]) + self._parts[part][2]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, np.ndarray):
            return _Rows(self._parts, self._column, self._root, self._where[index])
        part, row = self._place(int(self._where[index]))
        path, group, _ = self._parts[part]
        cell = _table(path, group, self._column)[self._column][row].as_py()
        if isinstance(cell, dict):
            if cell.get("bytes") is None:
                place = (self._root / str(cell.get("path"))).resolve()
                if not place.is_relative_to(self._root.resolve()):
                    raise ValueError("the table names a file outside its folder instead of holding the image")
                return str(place)
            cell = cell["bytes"]
        return cell


@functools.lru_cache(maxsize=16)
def _table(path: Path, group: int, column: str) -> Any:
    """A column of a row group of a parquet file, or of an arrow file as it lies in memory."""
    import pyarrow
    import pyarrow.parquet

    if path.suffix == ".arrow":
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all().select([column])
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column])


def _files(root: Path) -> list[tuple[str, Path]]:
    """Splits and their files in order."""
    found = []
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        folders = [root] if (root / "state.json").is_file() else files.subfolders(root)
        for folder in folders:
            split = "train" if folder == root else _SPLITS.get(folder.name)
            state = _json(folder / "state.json")
            found += [(split, folder / Path(str(part["filename"])).name) for part in state.get("_data_files", ()) if split]
        return found
    for path in sorted(root.rglob("*.parquet")):
        words = [path.stem.split("-")[0], path.parent.name]
        split = next((_SPLITS[word] for word in words if word in _SPLITS), "train" if path.parent == root else None)
        if split:
            found.append((split, path))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}); save the set again") from error


def _read(paths: list[Path], root: Path, image: str, label: str) -> tuple[_Rows, list[Any], list[str]]:
    """The images and labels of some files, and the names of the classes where the files know them."""
    import pyarrow
    import pyarrow.parquet

    parts, labels, names = [], [], []
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
            raise InputError(f"{str(path)!r} cannot be read ({str(error).splitlines()[0]}); get it again") from error
        for field, name in (("image", image), ("label", label)):
            require(name in schema.names, f"data.{field}", name, f"{path.name} has the columns {', '.join(schema.names)}")
        assert column is not None
        labels += column.to_pylist()
        parts += [(path, group, size) for group, size in enumerate(sizes) if size]
        names = names or _names(schema.metadata, label)
    return _Rows(parts, image, root), labels, names


def _names(metadata: dict[bytes, bytes] | None, label: str) -> list[str]:
    """The class names that the features in a table's metadata give."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
    except (KeyError, ValueError, TypeError):
        return []
    while not (isinstance(feature, dict) and "names" in feature):
        feature = feature[0] if isinstance(feature, list) and feature else feature.get("feature") if isinstance(feature, dict) else None
        if feature is None:
            return []
    return [str(name) for name in feature["names"]]


def _numbers(labels: list[Any], names: list[str], known: bool, split: str) -> np.ndarray | None:
    """Labels as int32 [n], or float32 [n, classes] where they are lists; None where some are missing. `known`: they may be numbers."""
    number = {name: i for i, name in enumerate(names)}

    def one(value: Any) -> int:
        found = value if known and isinstance(value, int) else number.get(str(value), -1)
        require(0 <= found < len(names), f"data: a label of {split}", value, f"the classes are {names[:5]}")
        return found

    if any(label is None or label == -1 for label in labels):
        return None
    if not any(isinstance(label, list) for label in labels):
        return np.array([one(label) for label in labels], np.int32)
    table = np.zeros((len(labels), len(names)), np.float32)
    for row, shown in zip(table, labels, strict=True):
        row[[one(value) for value in shown]] = 1
    return table
