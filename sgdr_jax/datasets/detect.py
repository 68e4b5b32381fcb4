"""What lies in a place: the dataset that reads a folder, a table, an .npz file or a set of the TFDS catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..core.errors import InputError, did_you_mean
from ..core.expression import expression
from ..core.paths import expanded
from ..core.text import one_line
from ..core.types import Dataset
from ..core.validation import require
from . import files
from .arrays import Arrays
from .csv_labels import CsvLabels
from .csv_table import ImageTable, read_table
from .file_names import FileNames
from .hf_datasets import HfDatasets
from .hugging_face import HuggingFace
from .image_folder import ImageFolder
from .metadata_folder import MetadataFolder, tables_of
from .splits import SPLIT_OF
from .tfds import Tfds, prepared_folder

KINDS: dict[str, type[Dataset]] = {
    kind.__name__: kind for kind in (ImageFolder, CsvLabels, MetadataFolder, FileNames, HuggingFace, HfDatasets, Arrays, Tfds)
}
"""Datasets that are found by looking."""
TFDS = "tfds:"
"""Begins the name of a TFDS set that a file or folder of that name would hide."""
_TABLES = (".csv", ".jsonl")
_LOOKED_AT = 200  # Rows whose images decide which column names them.


def detect(place: str | Path, kind: str | None = None) -> Dataset:
    """Return the dataset that reads what lies in a place.

    Looks at names of files, at the first rows of tables, and reads no image.

    Args:
        place: a folder (of class folders; with a table beside images; with `metadata.csv`, parquet files or archives as on the Hugging Face
            hub; of a prepared TFDS set; of images whose names tell their class), a table, an .npz file, or a name of the TFDS catalogue,
            which "tfds:" may precede.
        kind: name of the dataset class to take; None: as the files show.

    Raises:
        InputError: there is nothing of the kind, or it can be read in several ways, which are named with the remedy.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("cat/1.jpg", "dog/1.jpg"):
        ...         Path(root, name).parent.mkdir()
        ...         Path(root, name).touch()
        ...     print(type(detect(root)).__name__)
        ImageFolder
    """
    known = f"{did_you_mean(kind or '', KINDS)}use one of {', '.join(KINDS)}"
    require(kind is None or kind in KINDS, "kind", kind, known)
    text = str(place)
    require(bool(text.strip()), "folder", text, "it is empty; name a folder, a table, an .npz file or a set of the TFDS catalogue")
    path = expanded(text)
    if text.startswith(TFDS) or not path.exists():
        return _of_catalogue(text)
    if not text.startswith((".", "/", "~")) and _is_prepared(text):
        raise InputError(f"{text!r} is a folder here and a prepared set of the TFDS catalogue; write ./{text} or {TFDS}{text}")
    path = path.resolve()
    options = dict(_of_file(path) if path.is_file() else _of_folder(path, strict=not kind))
    if kind:
        if path.is_dir() and kind in ("FileNames", "HfDatasets"):  # which read folders that do not look like it, too
            return KINDS[kind](**{"root": str(path)})
        named = [data for data in options.values() if type(data).__name__ == kind]
        require(bool(named), "kind", kind, f"{text!r} does not look like one; it can be read {_ways(options) or 'in no way'}")
        options = {how: data for how, data in options.items() if data in named}
    require(bool(options), "folder", text, "there are no images in it; give a folder of class folders, a table beside images, or the like")
    if len(options) > 1:
        choices = f"{' or '.join(_choices(options))} (in Python, give that dataset itself)"
        raise InputError(f"{text!r} can be read in several ways: {_ways(options)}; choose one by {choices}")
    return next(iter(options.values()))


def name_of(data: Dataset) -> str:
    """Return a name for a dataset that was found, for experiments and files: that of its folder, file or set.

    Example:
        >>> name_of(ImageFolder("/home/ada/my photos")), name_of(Tfds("eurosat/rgb"))
        ('my_photos', 'eurosat_rgb')
        >>> print(name_of(ImageFolder("two\\nlines")))
        two\\nlines
    """
    if isinstance(data, Tfds):
        name = data.name
    else:
        name = Path(data.path).stem if isinstance(data, Arrays) else Path(str(getattr(data, "root", ""))).name
    return one_line(name).replace("/", "_").replace(" ", "_") or "photos"


def _choices(options: dict[str, Dataset]) -> list[str]:
    """Return how to choose one of several ways: by its kind, by the path of its table or arrays, or in Python."""
    kinds = Counter(type(data).__name__ for data in options.values())
    tables = Counter(str(Path(data.root, data.labels)) for data in options.values() if isinstance(data, CsvLabels))
    choices = [f"--kind {kind}" for kind in sorted(kinds) if kinds[kind] == 1]
    choices += [table for table in tables if len(tables) > 1 and tables[table] == 1]
    choices += [data.path for data in options.values() if isinstance(data, Arrays) and kinds["Arrays"] > 1]
    if len(choices) < len(options) - 1:
        alike = [data for data in options.values() if isinstance(data, CsvLabels) and tables[str(Path(data.root, data.labels))] > 1]
        choices += [f"data={' '.join(map(str.strip, expression(data).splitlines()))} in an experiment file" for data in alike]
    return choices


def _ways(options: dict[str, Dataset]) -> str:
    return ", ".join(options)


def _of_catalogue(text: str) -> Dataset:
    """Return a prepared set of the TFDS catalogue. Raises InputError for a name that is neither that nor a path."""
    name = text.removeprefix(TFDS)
    bare, _, version = name.partition(":")
    data = Tfds(bare, version or None)
    fix = "there is no such file or folder"
    require(bool(bare), "folder", text, f"write the name of a set of the TFDS catalogue after {TFDS}")
    require(text.startswith(TFDS) or not (text.startswith((".", "/", "~")) or PurePosixPath(name).suffix), "folder", text, fix)
    try:
        prepared_folder(bare, version=version or None)
    except InputError as error:
        hidden = "" if text.startswith(TFDS) else f"folder is {text!r}; {fix}; as a name of the TFDS catalogue: "
        raise InputError(f"{hidden}{error}") from error
    return data


def _is_prepared(name: str) -> bool:
    try:
        return bool(prepared_folder(name))
    except InputError:
        return False


def _of_file(path: Path) -> Iterator[tuple[str, Dataset]]:
    suffix = path.suffix.lower()
    require(suffix in (*_TABLES, ".npz"), "file", str(path), f"give a folder, or a file that ends in {', '.join(_TABLES)} or .npz")
    if suffix == ".npz":
        yield f"by {path.name}", Arrays(str(path))
    else:
        readings = list(_of_table(path))
        fix = f"no column of {path.name} names images below its folder; put the table beside them"
        require(bool(readings), "table", str(path), fix)
        yield from readings


def _of_folder(root: Path, strict: bool) -> Iterator[tuple[str, Dataset]]:
    """Yield the ways in which a folder can be read, with their datasets; `strict` refuses tables that name images in another spelling."""
    if (root / "features.json").is_file() and (root / "dataset_info.json").is_file():
        yield "as a prepared TFDS set", _prepared(root)
        return
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        yield "as written by save_to_disk", HuggingFace(str(root))
        return
    if tables_of(root):
        yield "by its metadata", MetadataFolder(str(root))
        return
    parquet = _below(root, "*.parquet")
    if any(path.name == "metadata.parquet" for path in parquet):
        yield "by metadata.parquet", HfDatasets(str(root))
        return
    if parquet:
        yield f"by parquet files ({parquet[0].relative_to(root).as_posix()})", HuggingFace(str(root))
    other = [path for path in sorted(root.iterdir()) if path.is_file() and not files.is_hidden(path.name)]
    arrays = [path for path in other if path.suffix.lower() == ".npz"]
    for path in arrays:
        yield f"by {path.name}", Arrays(str(path))
    if classes := _is_class_folder(root):
        yield "as a folder of classes", ImageFolder(str(root))
    tables, fault = list[tuple[str, Dataset]](), None
    for path in other:
        if path.suffix.lower() in _TABLES:
            try:
                tables += _of_table(path)
            except InputError as error:
                fault = fault or error
    yield from tables
    for path in other if strict and not tables else ():
        if path.suffix.lower() in _TABLES:
            _check_spelling(path, classes)
    if parquet or arrays or classes or tables:
        return  # A table that cannot be read is no part of the set then, which its notes tell.
    if fault:
        raise fault
    if archives := _below(root, "*.tar"):  # not beside folders of classes, which may be its contents
        yield f"by archives ({archives[0].relative_to(root).as_posix()})", HfDatasets(str(root))
    if _has_images(root):
        yield "by file names", FileNames(str(root))


def _below(root: Path, pattern: str) -> list[Path]:
    """Return the files below a folder whose names match a pattern, without hidden ones."""
    return [path for path in sorted(root.rglob(pattern)) if not any(map(files.is_hidden, path.relative_to(root).parts))]


def _prepared(root: Path) -> Tfds:
    """Return the set of a folder DATA_DIR/NAME[/CONFIG]/VERSION."""
    import json

    info = json.loads((root / "dataset_info.json").read_text(encoding="utf-8"))
    config = info.get("configName")
    name = f"{info['name']}/{config}" if config else info["name"]
    base = root.parents[1 + name.count("/")]
    return Tfds(name, root.name, str(base))


def _is_class_folder(root: Path) -> bool:
    """Return whether there are images in several folders, directly or within a folder train; one alone may hold the whole set."""
    folders = files.subfolders(root)
    train = [path for path in folders if SPLIT_OF.get(path.name.lower()) == "train"]
    if train and files.subfolders(train[0]):
        return any(map(_has_images, files.subfolders(train[0])))
    places = [path for path in folders if SPLIT_OF.get(path.name.lower()) is None and _has_images(path)]
    return len(places) > 1 or any(sum(map(_has_images, files.subfolders(place))) > 1 for place in places)


def _has_images(path: Path) -> bool:
    return bool(files.images_below(path, files.extensions((*files.FURTHER,)))[0])


def _of_table(path: Path) -> Iterator[tuple[str, Dataset]]:
    """Yield the ways to read a table: the columns whose cells name images, and the folders that these lie in."""
    table = read_table(path)
    root = path.parent
    for column, folder in _image_columns(table, _index(root)):
        name = table.header[column]
        # Two columns are read by position, so that a file as simple as that stays simple.
        image = "" if column == 0 and len(table.header) == 2 and not table.typed else name
        how = f"by {path.name}" + f", images named in {name!r} in {folder!r}" * bool(image or folder != "train")
        yield how, CsvLabels(str(root), path.name, folder, image_column=image)


def _check_spelling(path: Path, classes: bool) -> None:
    """Raise InputError for a table whose cells name images of its folder but for their folder, slashes or case.

    Beside class folders a table of addresses, or of paths that end as those in the class folders do, tells about the images.
    """
    try:
        table = read_table(path)
    except InputError:
        return  # What cannot be read as a table names nothing.
    endings = files.extensions((*files.FURTHER,))
    index = {name.casefold(): names[0] for name, names in _index(path.parent).items() if name.casefold().endswith(endings)}
    records = table.records[:_LOOKED_AT]
    for column, header in enumerate(table.header):
        cells = [(record.place, record.cells[column].strip()) for record in records]
        places = [index.get(PurePosixPath(cell.replace("\\", "/")).name.casefold()) for _, cell in cells]
        near = [(*cell, actual) for cell, actual in zip(cells, places, strict=True) if actual and "://" not in cell[1]]
        near = [(place, cell, actual) for place, cell, actual in near if not (classes and cell.endswith(f"/{actual}"))]
        if near and 2 * len(near) >= len(records):
            place, cell, actual = near[0]
            fix = "write it so, or take the folder without the table by --kind, in Python by a dataset of that kind"
            raise InputError(f"{place}: the image {cell!r} in column {header!r} is not there by that name, but {actual!r} is; {fix}")


def _index(root: Path) -> dict[str, list[str]]:
    """Return the images below a folder by their file names, with and without extension, as paths relative to it without extension."""
    index: dict[str, list[str]] = {}
    for path in files.images_below(root, files.extensions((*files.FURTHER,)))[0]:
        relative = PurePosixPath(Path(path).relative_to(root).as_posix())
        for name in {relative.name, relative.stem}:
            index.setdefault(name, []).append(str(relative if name == relative.name else relative.with_suffix("")))
    return index


def _image_columns(table: ImageTable, index: dict[str, list[str]]) -> list[tuple[int, str]]:
    """Return (column, folder) of the columns that name an image in each of the first rows, relative to a folder.

    Without such a column, those that name most images, if any does for half of the rows: what is missing is then told by name.
    """
    records = table.records[:_LOOKED_AT]
    hits: dict[tuple[int, str], set[str]] = {}  # distinct ones: a column of few values may happen to name some
    for column in range(len(table.header)):
        for record in records:
            cell = record.cells[column].strip().removeprefix("./")
            for path in index.get(PurePosixPath(cell).name, ()) if cell else ():
                if path == cell or path.endswith(f"/{cell}"):
                    place = (column, path[: len(path) - len(cell)].rstrip("/") or ".")
                    hits.setdefault(place, set()).add(path)
    most = max(map(len, hits.values()), default=0)
    return sorted(place for place, paths in hits.items() if len(paths) == most) if 2 * most >= len(records) and most else []
