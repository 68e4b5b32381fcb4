"""Images in one folder with labels in a table."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.types import OMIT_DEFAULT, Dataset, Source
from . import files
from .csv_table import read_table
from .examples import make_source
from .labels import form_notes
from .splits import check_fraction
from .table_columns import Options, rows_of
from .table_images import examples_of_rows, unused_files


@dataclass(frozen=True)
class CsvLabels(Dataset):
    """Reads labels from a CSV file with a header line: the image in the first column, its labels in the second, separated by spaces.

    `image_column` and `label_columns` name other columns; then, and in a file of JSON lines, labels are found by name, not by position.

    With exactly one label in every row the task is single-label; otherwise it is multi-label, and a row may have no label. Instead of
    labels, the second and further columns may hold zeros and ones, a column for each class (one-hot). A column `split`, or `is_valid` as
    fastai writes it, divides the images. `Source.notes` names the columns and files that are not used.

    A cell with a space may be one label or several. If the words do not recur in other combinations, the set is refused unless
    `separator` or `multi_label` decides.

    Source: the layout of Kaggle competitions, `labels.csv` beside the images in `train`; `from_csv` of fastai 0.7; the CSV files of
    RFC 4180.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "train").mkdir()
        ...     for name in "abcd":
        ...         Path(root, "train", f"{name}.jpg").touch()
        ...     _ = Path(root, "labels.csv").write_text("id,breed\\na,pug\\nb,boxer\\nc,pug\\nd,boxer\\n")
        ...     source = CsvLabels(root, valid_fraction=0.5).open()
        >>> source.classes, source.sizes
        (('boxer', 'pug'), {'train': 2, 'valid': 2})
    """

    root: str = "data"
    """Folder that contains the CSV file and the images."""
    labels: str = "labels.csv"
    """Name of the CSV file, or of one of JSON lines (.jsonl)."""
    images: str = "train"
    """Folder of the images; the first column names them relative to it, with or without extension."""
    separator: str = " "
    """Separator of the labels of one image; empty: the whole cell is one label."""
    split_column: str = "split"
    """Column with train, valid or test for each row, or is_valid with true or false; without one, is_valid if there is such a column,
    else a share is held out."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if no row is marked valid."""
    seed: int = 0
    """Seed of the held-out split."""
    multi_label: bool | None = field(default=None, metadata=OMIT_DEFAULT)
    """True: an image can have several labels; False: each cell of the second column is one label; None: as the rows show."""
    image_column: str = field(default="", metadata=OMIT_DEFAULT)
    """Column that names the images; empty: the first."""
    label_columns: tuple[str, ...] = field(default=(), metadata=OMIT_DEFAULT)
    """Column with the labels, or several that hold zeros and ones, one for each class; none: the second column, or those of zeros and ones
    from there on; with `image_column` the only other one, that with a name such as label, or all others if each holds zeros and ones."""
    formats: tuple[files.ImageFormat, ...] = field(default=(), metadata=OMIT_DEFAULT)
    """Image formats to read besides the common ones: tiff, avif, heic."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)
        files.check_formats(self.formats)

    def open(self) -> Source:
        """Read the table and list the images.

        Raises:
            InputError: a row cannot be used or can be understood in two ways (its line is named), or images are missing (the first few
                are named).
        """
        root = files.existing_folder(self.root, "data.root")
        folder = files.existing_folder(root / self.images, "data.images")
        table = read_table(root / self.labels)
        rows = rows_of(table, Options(self.image_column, self.label_columns, self.split_column, self.separator, self.multi_label))
        extensions = files.extensions(self.formats)
        classes, examples, forms = examples_of_rows(rows, folder, self.image_column or table.header[0], extensions)
        names = (name for part in examples.values() for name in part.names)
        notes = [*rows.notes, *form_notes(forms), *unused_files(root, [self.labels], folder, names, extensions)]
        return make_source(classes, examples, self.valid_fraction, self.seed, notes=notes)
