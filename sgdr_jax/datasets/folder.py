"""One folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import files, splits


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Images in one folder per class: `root/train/CLASS/*` with `root/valid` (or `val`, `validation`) and `root/test` beside it, in
    small letters or capitals, or `root/CLASS/*`.

    Where there is no validation folder, a share of each class is held out of the training images. A `test` folder without class
    folders holds unlabelled images and is left to `predict`. Hidden files and files that are no images by extension are ignored.
    """

    root: str = "data"
    """Folder that holds the splits, or directly the class folders."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, where there is no folder for it."""
    seed: int = 0
    """Decides which images are held out."""

    def __post_init__(self) -> None:
        splits.check_fraction(self.valid_fraction)

    def passed_over(self, source: Source) -> str:
        """What the opened set leaves out of its folder: files with other extensions, images outside the class folders; "" for nothing."""
        return files.passed_over(files.folder(self.root, "data.root"), (name for names in source.names.values() for name in names))

    def open(self) -> Source:
        """Lists the files. Raises InputError for a missing folder, fewer than two classes, a class folder without images, and a
        class that only the validation or test folder knows."""
        root = files.folder(self.root, "data.root")
        require(any(root.iterdir()), "data.root", self.root, "the folder is empty; give one with a folder per class")
        found = _split_folders(root) or {"train": _by_class(root, root)}
        classes = list(found["train"])
        loose = sum(files.is_image(path) for path in root.iterdir())
        there = f"found {classes}" + (f" and {loose:,} images in none" if loose else "")
        require(len(classes) >= 2, "data.root", self.root, f"needs a folder for each of at least two classes, {there}")
        for split, by_class in found.items():
            unknown = sorted(set(by_class) - set(classes))
            require(not unknown, f'data.root: classes in "{split}"', unknown[:5], "train has no folder of that name; rename or remove it")
        parts = {}
        for split, by_class in found.items():
            images = [image for name in classes for image in by_class.get(name, ())]
            labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(by_class.get(name, ())) for name in classes])
            parts[split] = files.examples(images, labels)
        return splits.make_source(classes, parts, self.valid_fraction, self.seed)


def _split_folders(root: Path) -> dict[str, dict[str, list[files.ImageFile]]]:
    """Split to class to images; {} where there is no folder of training images."""
    folders = [(path.name.lower(), path) for path in files.subfolders(root) if files.subfolders(path)]
    names = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
    found = {split: [path for name, path in folders if name in known] for split, known in names.items()}
    if not found["train"]:
        return {}
    for paths in found.values():
        if len(paths) > 1:
            raise InputError(f"data.root is {str(root)!r}; it has both {' and '.join(path.name for path in paths)}, keep one of them")
    return {split: _by_class(paths[0], root) for split, paths in found.items() if paths}


def _by_class(folder: Path, root: Path) -> dict[str, list[files.ImageFile]]:
    found = {path.name: files.images_in(path, root) for path in files.subfolders(folder)}
    empty = [name for name, images in found.items() if not images]
    require(
        not empty,
        f"data.root: class folders of {str(folder)!r} without images",
        empty[:5],
        f"put {', '.join(files.EXTENSIONS)} files in, or remove them",
    )
    return found
