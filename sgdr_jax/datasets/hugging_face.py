"""Local image datasets in the formats of Hugging Face `datasets`: parquet files, or the files of `save_to_disk`."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..core.errors import InputError
from ..core.types import OMIT_DEFAULT, Dataset, Source
from ..core.validation import require
from . import files
from .examples import Examples, Item, Items, LazyItems, make_source
from .labels import form_notes, n_hot, one_form
from .splits import SPLIT_OF, check_fraction, split_in

if TYPE_CHECKING:
    import pyarrow

type Label = int | float | str | list[int | float | str] | None
"""Cell of the label column: number or name of a class, several of them, or nothing."""


class Labelled(NamedTuple):
    """Images of a split with labels as they are stored; items, names and ids as in `Examples`."""

    items: Items
    labels: list[Label]
    names: Sequence[str]
    ids: Sequence[str]


@dataclass(frozen=True)
class HuggingFace(Dataset):
    """Reads a folder of parquet files, named or placed by split (`data/train-0.parquet`, `test/0.parquet`), or of `save_to_disk`.

    Uses pyarrow; the `datasets` package is not needed. Read what the hub calls an imagefolder with `MetadataFolder`
    or, without a table, with `ImageFolder`, and what needs the package with `HfDatasets`. `Source.notes` names the columns and files that
    are not used.

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
    """Column with the class (number or name), or with lists: of classes, or of zeros and ones, one for each class."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no split for it."""
    seed: int = 0
    """Seed of the held-out split."""
    multi_label: bool | None = field(default=None, metadata=OMIT_DEFAULT)
    """True: an image can have several classes; False: it has one; None: as the labels show, lists of one class each are refused."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    def open(self) -> Source:
        """Read all labels.

        Raises:
            InputError: the folder has no such files, columns are missing, labels are invalid, or lists may be single-label or not.
        """
        splits, names, notes = self._splits(files.existing_folder(self.root, "data.root"))
        splits = {split: part._replace(labels=[self._label(label) for label in part.labels]) for split, part in splits.items()}
        without = [split for split, part in splits.items() if any(label is None or label == -1 for label in part.labels)]
        require("train" not in without, "data.label", self.label, "some training images have no label")
        notes += [f"not used: the split {split}, since some of its images have no label" for split in without]
        labels = {split: part.labels for split, part in splits.items() if split not in without}
        numbers, names, forms = _numbered(labels, names)
        numbers = self._in_one_kind(numbers, len(names))
        examples = {split: Examples(part.items, numbers[split], part.names, part.ids) for split, part in splits.items() if split in numbers}
        return make_source(names, examples, self.valid_fraction, self.seed, notes=[*notes, *form_notes(forms)])

    def _label(self, label: Any) -> Label:
        """Return a label as number, text or list of these; None for NaN and empty texts. Raises InputError for a list with one of them."""
        if isinstance(label, list):
            labels = [self._label(value) for value in label]
            require(None not in labels, "data.label", self.label, f"the list {label} has an entry that is missing; leave it out")
            return cast(Label, labels)
        label = label.decode(errors="backslashreplace") if isinstance(label, bytes) else label
        return None if label == "" or label != label else label

    def _splits(self, root: Path) -> tuple[dict[str, Labelled], list[str], list[str]]:
        """Return the images of each split with their labels, the names of the classes, empty if the files do not give them, and notes."""
        tables, unused = _files(root)
        present = ", ".join(sorted({split for split, _ in tables})) or "none"
        require("train" in present.split(", "), "data.root", self.root, f"needs parquet or arrow files of a split train, found {present}")
        splits: dict[str, Labelled] = {}
        names: list[str] = []
        columns: set[str] = set()
        for split in ("train", "valid", "test"):
            paths = [path for s, path in tables if s == split]
            if paths:
                rows, labels, own, columns_of_split = _read(paths, root, self.image, self.label)
                names = _agreed(names, own, split)
                splits[split] = Labelled(rows, labels, numbered_names(split, len(labels)), rows.ids)
                columns |= columns_of_split
        notes = unused_columns(columns - {self.image, self.label})
        return splits, names, notes + [f"not used: {name}, whose name tells no split" for name in unused]

    def _in_one_kind(self, labels: dict[str, list[list[int]] | list[int]], classes: int) -> dict[str, np.ndarray]:
        """Return the labels of all splits as int32 [n], or as float32 [n, classes] of zeros and ones.

        Raises:
            InputError: all lists have one class, or some have not although the data are said to have one label for each image.
        """
        if not any(isinstance(label, list) for part in labels.values() for label in part) and not self.multi_label:
            return {split: np.array(part, np.int32) for split, part in labels.items()}
        lists = {split: [label if isinstance(label, list) else [label] for label in part] for split, part in labels.items()}
        single = all(len(label) == 1 for part in lists.values() for label in part)
        if self.multi_label is False:
            require(single, "data.multi_label", False, f"some lists in the column {self.label} have several classes or none; use True")
            return {split: np.array([label[0] for label in part], np.int32) for split, part in lists.items()}
        fix = "every image has exactly one class, in a list; set data.multi_label to False if that is so, to True if it can have several"
        require(not single or self.multi_label is True, "data.label", self.label, fix)
        return {split: n_hot(part, classes) for split, part in lists.items()}


def numbered_names(split: str, count: int) -> list[str]:
    """Return names of the images of a split that have none of their own."""
    return [f"{split}/{i}" for i in range(count)]


def unused_columns(columns: Iterable[str]) -> list[str]:
    """Return a line about columns that are not used; none if there are none."""
    names = sorted(columns)
    return [f"not used: the column{'s' * (len(names) > 1)} {', '.join(names)}"] if names else []


class _RowGroup(NamedTuple):
    path: Path
    number: int
    rows: int
    changed: int


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

    @property
    def files(self) -> list[str]:
        """The files of the row groups, and the image files that they name."""
        root = os.path.abspath(self._root)
        named = {os.path.normpath(os.path.join(root, name)) for group in self._groups for name in _image_files(group, self._column)}
        inside = {name for name in named if name.startswith(root + os.sep) and os.path.isfile(name)}
        return sorted({str(group.path) for group in self._groups} | inside)

    def _place(self, position: int) -> tuple[_RowGroup, int]:
        """Return the row group of a position, and the row within it."""
        number = int(np.searchsorted(self._ends, position, side="right"))
        group = self._groups[number]
        return group, position - int(self._ends[number]) + group.rows

    def read(self, position: int) -> Item:
        """Read a cell: an encoded image, or the path of an image file inside the folder."""
        group, row = self._place(position)
        cell = _table(group, self._column)[self._column][row].as_py()
        if isinstance(cell, dict):
            cell = cell["path"] if cell.get("bytes") is None else cell["bytes"]
        if isinstance(cell, bytes):
            return cell
        place = (self._root / str(cell)).resolve()
        if not place.is_relative_to(self._root.resolve()):
            raise ValueError("the table names a file outside its folder instead of holding the image")
        return str(place)


@functools.lru_cache(maxsize=16)
def _table(group: _RowGroup, column: str) -> pyarrow.Table:
    """Return a column of a row group of a parquet file, or of a memory-mapped arrow file."""
    import pyarrow
    import pyarrow.parquet

    if group.path.suffix == ".arrow":
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(group.path))).read_all().select([column])
    with pyarrow.parquet.ParquetFile(group.path) as file:
        return file.read_row_group(group.number, columns=[column])


def _image_files(group: _RowGroup, column: str) -> list[str]:
    """Return the paths in those cells of a row group that do not hold the image itself; the images are not read."""
    import pyarrow
    import pyarrow.parquet

    def texts(cells: pyarrow.Array) -> list[str]:
        if pyarrow.types.is_struct(cells.type):
            within = [cells.type.get_field_index(name) for name in ("bytes", "path")]
            path = cells.field(within[1]) if within[1] >= 0 else pyarrow.nulls(len(cells))
            cells = path.filter(cells.field(within[0]).is_null()) if within[0] >= 0 else path
        kind = cells.type.value_type if pyarrow.types.is_dictionary(cells.type) else cells.type
        text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind)
        return list(filter(None, cells.to_pylist())) if text else []

    if group.path.suffix == ".arrow":
        table = _table(group, column)
    else:
        with pyarrow.parquet.ParquetFile(group.path) as file:
            kind, facts = file.schema_arrow.field(column).type, file.metadata.row_group(group.number)
            parts = {part.path_in_schema: part.statistics for part in map(facts.column, range(facts.num_columns))}
            images = parts.get(f"{column}.bytes")
            if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) or (images and images.null_count == 0):
                return []
            table = file.read_row_group(group.number, columns=[f"{column}.path" if pyarrow.types.is_struct(kind) else column])
    chunks = table[column].chunks if column in table.schema.names else []
    return [text for chunk in chunks for text in texts(chunk)]


def _files(root: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """Return the split and path of each file, in order, and the names of those whose split is unknown.

    Raises:
        InputError: files of one split lie in several folders, as those of configurations do.
    """
    located, unused = [], []
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        folders = [root] if (root / "state.json").is_file() else files.subfolders(root)
        for folder in folders:
            split = "train" if folder == root else SPLIT_OF.get(folder.name.lower())
            if split is None:
                unused.append(folder.name)
                continue
            state = _json(folder / "state.json")
            _check_place(split, {folder, *(path.parent for own, path in located if own == split)}, root, "keep one of them")
            located += [(split, folder / Path(str(part["filename"])).name) for part in state.get("_data_files", ())]
        return located, unused
    paths = [path for path in sorted(root.rglob("*.parquet")) if not any(map(files.is_hidden, path.relative_to(root).parts))]
    splits = [split_in(path.stem) or split_in(path.parent.name if path.parent != root else "") for path in paths]
    # Files that tell no split are the training images, unless others are.
    rest = None if "train" in splits else "train"
    places: dict[str, set[Path]] = {"train": set(), "valid": set(), "test": set()}
    for path, split in zip(paths, splits, strict=True):
        if split := split or (rest if path.parent == root else None):
            located.append((split, path))
            places[split].add(_place(path.parent, split, root))
        else:
            unused.append(path.relative_to(root).as_posix())
    fix = "if they are configurations, set data.root to one of them, or take HfDatasets (--kind HfDatasets), whose configuration names one"
    fix += "; if they are parts of one, move the files into one folder"
    for split, folders in places.items():
        _check_place(split, folders, root, fix)
    return located, unused


def _place(folder: Path, split: str, root: Path) -> Path:
    """Return the folder of the configuration that a file in `folder` is of: what holds the innermost folder named after its split.

    Folders inside that one hold parts of the split. Without such a folder it is `folder` itself.
    """
    parts = folder.relative_to(root).parts
    # Farther up only the bare name counts: small-train and full-train may be configurations.
    named = [i for i, name in enumerate(parts) if (split_in(name) if i == len(parts) - 1 else SPLIT_OF.get(name.lower())) == split]
    return root.joinpath(*parts[: named[-1]]) if named else folder


def _check_place(split: str, folders: set[Path], root: Path, fix: str) -> None:
    names = sorted(folder.relative_to(root).as_posix() for folder in folders)
    require(len(names) < 2, f"data.root: the folders with files of the split {split}", names, fix)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}); save the dataset again") from error


def _read(paths: list[Path], root: Path, image: str, label: str) -> tuple[_Rows, list[Label], list[str], set[str]]:
    """Return the images and labels of some files, the names of the classes, empty if the files do not give them, and all columns."""
    import pyarrow
    import pyarrow.parquet

    groups, labels, names, columns = [], [], [], set[str]()
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
        for option, name in (("image", image), ("label", label)):
            require(name in schema.names, f"data.{option}", name, f"{path.name} has the columns {', '.join(schema.names)}")
        assert column is not None
        columns |= set(schema.names)
        labels += column.to_pylist()
        groups += [_RowGroup(path, number, rows, path.stat().st_ctime_ns) for number, rows in enumerate(sizes) if rows]
        names = _agreed(names, _names(schema.metadata, label), path.name)
    return _Rows(groups, image, root), labels, names, columns


def _agreed(names: list[str], own: list[str], of: str) -> list[str]:
    """Return the names of the classes so far or, if there are none, those `of` a file or split.

    Raises:
        InputError: they differ, so that a number does not mean one class.
    """
    require(not names or not own or own == names, f"data: the names of the classes of {of}", own[:5], f"those before it are {names[:5]}")
    return names or own


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


def _numbered(labels: dict[str, list[Label]], names: list[str]) -> tuple[dict[str, list[Any]], list[str], dict[str, str]]:
    """Return class numbers, or lists of them, in place of labels; the names of the classes; and the forms of names, see `one_form`.

    Integers are class numbers if the files give the names of the classes, else names. Lists of zeros and ones of one length are not class
    numbers, of which none can occur twice, but tell of each class whether it is shown.

    Args:
        labels: split name to labels, without missing ones.
        names: names of the classes in the files; empty: none.
    """
    every = [label for part in labels.values() for label in part]
    if length := _vector_length(every, names):
        names = names or [str(i) for i in range(length)]
        vectors = cast(dict[str, list[list[int]]], labels)
        return {split: [[i for i, value in enumerate(row) if value] for row in part] for split, part in vectors.items()}, names, {}
    named = bool(names)
    forms = one_form(names if named else (str(x) for label in every for x in (label if isinstance(label, list) else [label])))
    if not named:
        names = sorted(set(forms.values()), key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
    number = {name: i for i, name in enumerate(names)}

    def one(value: object, split: str) -> int:
        label = value if named and isinstance(value, int) else number.get(str(value) if named else forms[str(value)], -1)
        require(0 <= label < len(names), f"data: a label of {split}", value, f"the classes are {names[:5]}")
        return label

    def each(label: Label, split: str) -> int | list[int]:
        return [one(value, split) for value in label] if isinstance(label, list) else one(label, split)

    return {split: [each(label, split) for label in part] for split, part in labels.items()}, names, {} if named else forms


def _vector_length(labels: list[Label], names: list[str]) -> int:
    """Return the length of labels that are all lists of zeros and ones, one for each class; 0 if they are not."""
    lists = [label for label in labels if isinstance(label, list)]
    lengths = {len(label) for label in lists}
    if len(lists) < len(labels) or len(lengths) != 1 or any(value not in (0, 1) for label in lists for value in label):
        return 0
    length = lengths.pop()
    return length if length >= 2 and len(names) in (0, length) else 0
