"""Images with a table of metadata beside them, as the Hugging Face hub lays them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError
from ..core.types import OMIT_DEFAULT, Dataset, Source
from ..core.validation import require
from . import files
from .csv_table import ImageTable, joined, read_table
from .examples import make_source
from .labels import form_notes
from .splits import SPLIT_OF, check_fraction
from .table_columns import Options, TableRow, TableRows, rows_of
from .table_images import examples_of_rows, unused_files

NAMES = ("metadata.csv", "metadata.jsonl")
"""Names of the tables."""


@dataclass(frozen=True)
class MetadataFolder(Dataset):
    """Reads a folder with `metadata.csv` or `metadata.jsonl`, in it or in each of its folders `train`, `validation` and `test`.

    A row names an image relative to its table. Labels are in the only other column, in that with a name such as `label`, or in columns of
    zeros and ones, one for each class; in JSON a list holds several labels.

    Source: the layout `imagefolder` of Hugging Face `datasets`, https://huggingface.co/docs/datasets/image_dataset.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in "abcd":
        ...         Path(root, f"{name}.jpg").touch()
        ...     _ = Path(root, "metadata.csv").write_text("file_name,label\\na.jpg,pug\\nb.jpg,boxer\\nc.jpg,pug\\nd.jpg,boxer\\n")
        ...     source = MetadataFolder(root, valid_fraction=0.5).open()
        >>> source.classes, source.sizes
        (('boxer', 'pug'), {'train': 2, 'valid': 2})
    """

    root: str = "data"
    """The folder."""
    image_column: str = "file_name"
    """Column that names the images."""
    label_columns: tuple[str, ...] = ()
    """Column with the labels, or several that hold zeros and ones, one for each class; none: as described above."""
    split_column: str = "split"
    """Column of a single table with train, valid or test for each row, or is_valid with true or false; without one, is_valid if there is
    such a column, else a share is held out."""
    separator: str = ""
    """Separator of several labels in a cell of a CSV file; empty: the whole cell is one label, and cells that look like several are
    refused unless `multi_label` is False."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no split for it."""
    seed: int = 0
    """Seed of the held-out split."""
    multi_label: bool | None = None
    """True: an image can have several labels; False: it has one; None: as the rows show."""
    formats: tuple[files.ImageFormat, ...] = field(default=(), metadata=OMIT_DEFAULT)
    """Image formats to read besides the common ones: tiff, avif, heic."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)
        files.check_formats(self.formats)

    def open(self) -> Source:
        """Read the tables and list the images.

        Raises:
            InputError: there is no table, a row cannot be used or can be understood in two ways (its line is named), or images are missing.
        """
        root = files.existing_folder(self.root, "data.root")
        paths = tables_of(root)
        fix = f"needs {' or '.join(NAMES)}, in the folder or in its folder train"
        require("" in paths or "train" in paths, "data.root", self.root, fix)
        tables = {split: read_table(path, path.relative_to(root).as_posix()) for split, path in paths.items()}
        tables, notes = _with_all_columns(tables)
        rows = self._rows(tables)
        rows.notes.extend(notes)
        extensions = files.extensions(self.formats)
        classes, examples, forms = examples_of_rows(rows, root, self.image_column, extensions)
        names = (name for part in examples.values() for name in part.names)
        unused = unused_files(root, [table.name for table in tables.values()], root, names, extensions)
        return make_source(classes, examples, self.valid_fraction, self.seed, notes=[*rows.notes, *form_notes(forms), *unused])

    def _rows(self, tables: dict[str, ImageTable]) -> TableRows:
        """Return the rows of all tables, with images relative to the folder."""
        divided = "" not in tables
        split_of = {table.name: split for split, table in tables.items()}
        split = "" if divided else self.split_column
        options = Options(self.image_column, self.label_columns, split, self.separator, self.multi_label, default="")
        rows = rows_of(joined(list(tables.values())), options)

        def placed(row: TableRow) -> TableRow:
            folder = Path(row.record.file).parent.as_posix()
            image = row.image if folder == "." else f"{folder}/{row.image}"
            return row._replace(image=image, split=split_of[row.record.file] if divided else row.split)

        return rows._replace(rows=[placed(row) for row in rows.rows])


def tables_of(root: Path) -> dict[str, Path]:
    """Return the tables of metadata in a folder: {"": path} for one of the whole set, else by split; {} if there are none.

    Raises:
        InputError: a folder has two tables, or there are tables in the folder and in those of splits, or several of one split.
    """
    paths: dict[str, Path] = {}
    for folder in (root, *files.subfolders(root)):
        split = "" if folder == root else SPLIT_OF.get(folder.name.lower())
        for path in (folder / name for name in NAMES):
            if split is None or not path.is_file():
                continue
            if split in paths or (split and "" in paths):
                before = paths.get(split, paths.get(""))
                assert before is not None
                both = f"{before.relative_to(root).as_posix()} and {path.relative_to(root).as_posix()}"
                raise InputError(f"data.root is {str(root)!r}; it has both {both}, keep one of them")
            paths[split] = path
    return paths


def _with_all_columns(tables: dict[str, ImageTable]) -> tuple[dict[str, ImageTable], list[str]]:
    """Return the tables without a test table that lacks columns, such as that of labels, and a line about it."""
    test, train = tables.get("test"), tables.get("train")
    if test is None or train is None or not (lacking := [name for name in train.header if name not in test.header]):
        return tables, []
    note = f"not used: {test.name}, which lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)} of {train.name}"
    return {split: table for split, table in tables.items() if split != "test"}, [note]
