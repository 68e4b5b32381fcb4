"""Local image datasets through the Hugging Face library `datasets`: whatever its `load_dataset` reads from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.validation import require
from . import files
from .examples import Item, LazyItems
from .hugging_face import HuggingFace, Labelled, numbered_names, unused_columns
from .splits import SPLIT_OF

_LABELS = ("label", "labels", "cls", "json.label")
"""Names of the column with the labels, in this order, where no column holds classes by its type; the last two are WebDataset's."""


@dataclass(frozen=True)
class HfDatasets(HuggingFace):
    """Reads a folder as `load_dataset` of Hugging Face `datasets` does.

    For what `HuggingFace`, `MetadataFolder` and `ImageFolder` do not read by themselves: WebDataset archives (`train-000.tar`),
    `metadata.parquet` beside images, several configurations, splits named in a README. The library copies tables and archives into its
    own cache first. It is the extra `datasets`; its versions from 4 on run no code of a set.

    Source: https://huggingface.co/docs/datasets/image_load.

    Example:
        >>> birds = HfDatasets("downloads/birds", label="json.species")
        >>> birds.image
        ''
    """

    image: str = ""
    """Column with the images; empty: the only one whose type is image."""
    label: str = ""
    """Column with the class, or with lists, as in `HuggingFace`; "json.species" is a field of the column json. Empty: the only one whose
    type is class, else label, labels, cls or json.label."""
    configuration: str = ""
    """Configuration of the set; empty: the only one, or that which the set calls default."""

    def _splits(self, root: Path) -> tuple[dict[str, Labelled], list[str], list[str]]:
        library = _library()
        data_by_split = {split: _flat(library, data) for split, data in self._load(library, root).items()}
        notes = [f"not used: the split {name}, whose name is not known" for name in data_by_split if name not in SPLIT_OF]
        for split in ("train", "valid", "test"):
            names = [name for name in data_by_split if SPLIT_OF.get(name) == split]
            require(len(names) < 2, f"data.root: the splits that are taken for {split}", names, "keep one of them")
        data_by_split = {SPLIT_OF[name]: data for name, data in data_by_split.items() if name in SPLIT_OF}
        require("train" in data_by_split, "data.root", self.root, f"needs a split train, found {', '.join(data_by_split) or 'none'}")
        features = data_by_split["train"].features
        image = _column("image", self.image, [name for name, kind in features.items() if isinstance(kind, library.Image)], features)
        classes = [name for name, kind in features.items() if isinstance(_inner(kind), library.ClassLabel)]
        label = _column("label", self.label, classes or [name for name in _LABELS if name in features][:1], features)
        notes += unused_columns(name for name in features if name not in (image, label) and not name.startswith("__"))
        splits = {}
        for split, data in data_by_split.items():
            lacking = [name for name in (image, label) if name not in data.features]
            if lacking:
                notes.append(f"not used: the split {split}, which has no column {', '.join(lacking)}")
            else:
                splits[split] = _labelled(split, data.cast_column(image, library.Image(decode=False)), image, label, root)
        return splits, list(getattr(_inner(features[label]), "names", ())), notes

    def _load(self, library: Any, root: Path) -> dict[str, Any]:
        """Return the splits of the set by name."""
        saved = any((root / name).is_file() for name in ("dataset_dict.json", "state.json"))
        try:
            # Given a relative path the library takes names of folders outside the set for classes.
            place = str(root.resolve())
            loaded = library.load_from_disk(place) if saved else library.load_dataset(place, self.configuration or None)
        except Exception as error:  # of many kinds, from the readers of many formats
            reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
            raise InputError(f"data.root is {self.root!r}; the package datasets cannot read it: {reason}") from error
        return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError("HfDatasets reads through the package datasets: pip install 'sgdr_jax[datasets]'") from error
    return datasets


def _flat(library: Any, data: Any) -> Any:
    """Return a table with the fields of its columns as columns, and those that hold encoded images as images, whatever their type."""
    for name, kind in data.features.items():
        if isinstance(kind, library.Image) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"}):
            data = data.cast_column(name, library.Image())
    return data.flatten()


def _inner(feature: Any) -> Any:
    """Return the type of the elements of lists, and other types as they are."""
    return _inner(feature.feature) if hasattr(feature, "feature") else feature


def _column(field: str, name: str, likely: Sequence[str], columns: Sequence[str]) -> str:
    """Return the name of a column that is given, or that alone is likely. Raises InputError if there is none, or several."""
    require(not name or name in columns, f"data.{field}", name, f"the columns are {', '.join(columns)}")
    if not name and len(likely) != 1:
        which = f"several columns may be meant, {', '.join(likely)}" if likely else f"the columns are {', '.join(columns)}"
        raise InputError(f"data.{field} is empty; {which}; name one")
    return name or likely[0]


def _labelled(split: str, data: Any, image: str, label: str, root: Path) -> Labelled:
    """Return the images of a split: as files where they lie in the folder, else as cells of its tables."""
    labels = list(data[label])
    cells = data.data.column(image)
    parts = dict(zip((part.name for part in cells.type), cells.flatten(), strict=True))
    if parts["bytes"].null_count < len(cells):
        items = _Cells(data.select_columns([image]), image)
        # The library derives its fingerprint from the names and times of the files, and keeps it over a renewed cache.
        ids = [f"{data._fingerprint} {i:09}" for i in range(len(items))]
        return Labelled(items, labels, numbered_names(split, len(items)), ids)
    images = []
    for text in parts["path"].to_pylist():
        path = root / str(text)
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            raise InputError(f"data.root is {str(root)!r}; a table names {str(text)!r}, which is no file in it")
        stat = path.stat()
        name = path.resolve().relative_to(root.resolve()).as_posix()
        images.append(files.ImageFile(str(path), name, stat.st_size, stat.st_mtime_ns))
    return Labelled(tuple(i.path for i in images), labels, [i.name for i in images], [i.id for i in images])


class _Cells(LazyItems):
    """Encoded images in a column of the library's tables."""

    def __init__(self, data: Any, column: str) -> None:
        super().__init__(len(data))
        self._data, self._column = data, column

    @property
    def files(self) -> list[str]:
        """The library's files."""
        return sorted({str(part["filename"]) for part in self._data.cache_files})

    def read(self, position: int) -> Item:
        """Read a cell."""
        content = self._data[position][self._column]["bytes"]
        if content is None:
            raise ValueError("the table names a file instead of holding the image, as others do")
        return content
