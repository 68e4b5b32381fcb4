"""Image files in folders: which ones count, and what tells one from another."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.validation import require
from .splits import Examples

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
"""Files with other extensions are no images (case does not matter). `decode` reads these formats and no others."""


class ImageFile(NamedTuple):
    """An image file: full path, name relative to the dataset's root (with /), bytes, and time of change in nanoseconds."""

    path: str
    name: str
    size: int
    mtime_ns: int

    @property
    def id(self) -> str:
        """Changes with the contents, as far as can be told unread: the root may move; a file that is replaced counts as another."""
        return f"{self.name} {self.size} {self.mtime_ns}"


def examples(images: Sequence[ImageFile], labels: np.ndarray) -> Examples:
    """Image files and their labels, as part of a set."""
    return Examples(tuple(i.path for i in images), labels, [i.name for i in images], [i.id for i in images])


def folder(path: str | Path, field: str) -> Path:
    """`path` as a folder that exists, ~ expanded. Raises InputError naming `field` otherwise."""
    found = Path(path).expanduser()
    require(not found.is_file(), field, str(path), "that is a file; give the folder that holds the images")
    require(found.is_dir(), field, str(path), "there is no such folder; give the folder that holds the images")
    return found


def subfolders(path: Path) -> list[Path]:
    """The folders directly in `path`, sorted by name, without hidden ones and those that archives of macOS bring; none where `path` is
    no folder."""
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "__MACOSX")) and entry.is_dir())


def is_image(path: str | Path) -> bool:
    """Whether a path counts as an image by its name: a known extension, and not hidden. Reads nothing."""
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def images_in(path: Path, root: Path) -> list[ImageFile]:
    """The image files directly in `path`, sorted by name, hidden ones left out; their names are relative to `root`.

    A link that leads nowhere counts as a file, which cannot be read: it is not left out in silence.
    """
    prefix = "" if path == root else path.relative_to(root).as_posix() + "/"
    with os.scandir(path) as entries:
        found = [(entry.path, prefix + entry.name, _described(entry)) for entry in entries if is_image(entry.name)]
    kinds = (stat.S_ISREG, stat.S_ISLNK)
    return sorted(ImageFile(path, name, s.st_size, s.st_mtime_ns) for path, name, s in found if any(kind(s.st_mode) for kind in kinds))


def passed_over(root: Path, used: Iterable[str]) -> str:
    """What a set leaves out of a folder, as "7 files (3 .tif, 3 images elsewhere, 1 without extension)"; "" for nothing. Hidden ones apart.

    Args:
        root: the set's folder.
        used: names of the set's images, relative to it.
    """
    known, found = set(used), Counter()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and (Path(folder) / name).relative_to(root).as_posix() not in known:
                suffix = os.path.splitext(name)[1].lower()
                found["images elsewhere" if suffix in EXTENSIONS else suffix or "without extension"] += 1
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(found.items(), key=lambda item: (-item[1], item[0])))
    return f"{found.total():,} file{'s' * (found.total() > 1)} ({kinds})" if found else ""


def _described(entry: os.DirEntry[str]) -> os.stat_result:
    """What the system says of a file, or of the link where that leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)
