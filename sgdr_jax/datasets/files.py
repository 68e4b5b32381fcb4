"""Image files in folders: which files count as images, and what identifies them."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from ..core.paths import expanded
from ..core.types import Dataset
from ..core.validation import require
from .examples import Examples

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
"""Extensions of images, in any case."""
ImageFormat = Literal["tiff", "avif", "heic"]
"""Image formats that a dataset reads only where it lists them; HEIC needs the extra of that name."""
FURTHER: dict[ImageFormat, tuple[str, ...]] = {"tiff": (".tif", ".tiff"), "avif": (".avif",), "heic": (".heic", ".heif")}
"""Extensions of further formats. `decode` reads a format of these from files with such a name, and no others."""


def check_formats(formats: Sequence[str]) -> None:
    """Raise InputError for unknown further formats."""
    unknown = [name for name in formats if name not in get_args(ImageFormat)]
    require(not unknown, "data.formats", unknown, f"use some of {', '.join(get_args(ImageFormat))}; all others are read anyway")


def extensions(formats: Sequence[ImageFormat] = ()) -> tuple[str, ...]:
    """Return the extensions of image files, with those of further formats. Raises InputError if a package for one is missing."""
    there = "heic" not in formats or importlib.util.find_spec("pillow_heif") is not None
    require(there, "data.formats", "heic", "it needs pillow-heif: pip install 'sgdr_jax[heic]'")
    return (*EXTENSIONS, *(suffix for name in formats for suffix in FURTHER[name]))


def formats_of(data: Dataset) -> tuple[ImageFormat, ...]:
    """Return the further formats of a dataset and of those that it is made of."""
    inner = [value for field in dataclasses.fields(data) for value in _datasets(getattr(data, field.name))]
    own: tuple[ImageFormat, ...] = getattr(data, "formats", ())
    return tuple(dict.fromkeys((*own, *(name for part in inner for name in formats_of(part)))))


def _datasets(value: object) -> list[Dataset]:
    values = value if isinstance(value, tuple) else (value,)
    return [item for item in values if isinstance(item, Dataset)]


def format_fix(suffix: str) -> str:
    """Return how to read files with this extension, for messages; "" if that cannot be chosen."""
    return next((f"; set data.formats to {name} to read it" for name, known in FURTHER.items() if suffix.lower() in known), "")


class ImageFile(NamedTuple):
    """An image file: full path, name relative to the dataset's root (with /), bytes, and time of change in nanoseconds."""

    path: str
    name: str
    size: int
    mtime_ns: int

    @property
    def id(self) -> str:
        """Changes with the contents, as far as can be told without reading: survives a move of the root, not a replaced file."""
        return f"{self.name} {self.size} {self.mtime_ns}"


def examples(images: Sequence[ImageFile], labels: np.ndarray) -> Examples:
    """Return image files with their labels as examples."""
    return Examples(tuple(i.path for i in images), labels, [i.name for i in images], [i.id for i in images])


def existing_folder(path: str | Path, field: str) -> Path:
    """Return `path` with ~ expanded. Raises InputError naming `field` unless it is a folder."""
    folder = expanded(path)
    require(not folder.is_file(), field, str(path), "that is a file; give the folder that holds the images")
    require(folder.is_dir(), field, str(path), "there is no such folder; give the folder that holds the images")
    return folder


def subfolders(path: Path) -> list[Path]:
    """Return the folders directly in `path`, sorted by name, without hidden ones and those of macOS archives.

    Returns none if `path` is not a folder.
    """
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if not is_hidden(entry.name) and entry.is_dir())


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of that name is no part of any set: hidden, or brought by an archive of macOS."""
    return name.startswith((".", "__MACOSX"))


def is_image(path: str | Path, extensions: Sequence[str] = EXTENSIONS) -> bool:
    """Return whether a path counts as an image by its name: one of these extensions, and not hidden. Reads nothing."""
    name = os.path.basename(path)
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in extensions


def images_in(path: Path, root: Path, extensions: Sequence[str] = EXTENSIONS) -> list[ImageFile]:
    """Return the image files directly in `path`, sorted by name, without hidden ones; their names are relative to `root`.

    A broken link counts as an (unreadable) file, so that it is not ignored in silence.
    """
    prefix = "" if path == root else path.relative_to(root).as_posix() + "/"
    with os.scandir(path) as entries:
        images = [(entry.path, prefix + entry.name, _stat(entry)) for entry in entries if is_image(entry.name, extensions)]
    kinds = (stat.S_ISREG, stat.S_ISLNK)
    return sorted(ImageFile(path, name, s.st_size, s.st_mtime_ns) for path, name, s in images if any(kind(s.st_mode) for kind in kinds))


def walk(root: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does, through links to folders too, except where one leads back to a folder that it lies in."""
    inside = {str(root): {_identity(root)}}
    for folder, folders, names in os.walk(root, followlinks=True):
        above = inside.pop(folder, set())
        identities = {name: _identity(os.path.join(folder, name)) for name in folders}
        folders[:] = [name for name, identity in identities.items() if identity not in above]
        inside |= {os.path.join(folder, name): above | {identities[name]} for name in folders}
        yield folder, folders, names


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return what tells a folder from any other, by whichever path; None if it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def images_below(root: Path, extensions: Sequence[str] = EXTENSIONS) -> tuple[list[str], list[str]]:
    """Return the paths of the image files below a folder, sorted, and of hidden ones, whose own name or folder is hidden."""
    images, hidden = [], []
    for folder, _, names in walk(root):
        inside = any(map(is_hidden, Path(folder).relative_to(root).parts))
        for name in names:
            if os.path.splitext(name)[1].lower() in extensions:
                (hidden if inside or is_hidden(name) else images).append(str(Path(folder, name)))
    return sorted(images), sorted(hidden)


def notes(root: Path, used: Iterable[str], extensions: Sequence[str] = EXTENSIONS) -> list[str]:
    """Return a line about the files below a dataset's folder that are no part of it; none if there are none.

    As "not part of the set: 7 files (3 .tif, 3 images elsewhere, 1 without extension), such as 'cat/more/1.jpg'". Hidden files count if
    they are images, without the descriptions that macOS keeps beside them.

    Args:
        root: the dataset's folder.
        used: names of the files that the dataset uses, relative to `root`.
        extensions: of image files.
    """
    rest = other_files(root, used, extensions)
    return [f"not part of the set: {rest}"] if rest else []


def other_files(root: Path, used: Iterable[str], extensions: Sequence[str] = EXTENSIONS, *, hidden_too: bool = True) -> str:
    """Summarise the files below a folder that are not used, by kind, perhaps with hidden images; "" for none. See `notes`."""
    known, ignored, elsewhere = set(used), Counter(), []
    for folder, folders, names in walk(root):
        folders[:] = [name for name in folders if name != "__MACOSX"]
        parent = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if parent == "." else parent + "/"
        hidden = prefix.startswith(".") or "/." in prefix
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if hidden or is_hidden(name):
                ignored["hidden images"] += hidden_too and suffix in extensions and not name.startswith("._")
            elif prefix + name not in known:
                ignored["images elsewhere" if suffix in extensions else suffix or "without extension"] += 1
                if suffix in extensions:
                    elsewhere.append(prefix + name)
    ignored += Counter()  # without those of which there are none
    if not ignored:
        return ""
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(ignored.items(), key=lambda item: (-item[1], item[0])))
    example = f", such as {min(elsewhere)!r}" if elsewhere else ""
    return f"{ignored.total():,} file{'s' * (ignored.total() > 1)} ({kinds}){example}"


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    """Return the status of a file, or of the link itself if it is broken."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)
