"""Image files in one folder per class."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.types import Dataset, Source
from ..core.validation import require
from . import files
from .examples import make_source
from .splits import check_fraction


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Reads images from one folder per class: `root/train/CLASS/*`, with `root/valid` and `root/test` beside it, or `root/CLASS/*`.

    Split folders may be named in small letters or capitals, the validation folder also `val` or `validation`. Without one, a share of
    each class is held out of the training images. A `test` folder without class folders holds unlabelled images and is left to
    `predict`. Hidden files and files without an image extension are ignored.

    Source: the layout of `ImageClassifierData.from_paths` of fastai 0.7 and of `ImageFolder` of torchvision.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg"):
        ...         Path(root, name).parent.mkdir(exist_ok=True)
        ...         Path(root, name).touch()
        ...     source = ImageFolder(root, valid_fraction=0.5).open()
        >>> source.classes, source.sizes
        (('cat', 'dog'), {'train': 2, 'valid': 2})
    """

    root: str = "data"
    """Folder that holds the splits, or directly the class folders."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no folder for it."""
    seed: int = 0
    """Seed of the held-out split."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)

    def ignored_files(self, source: Source) -> str:
        """Summarise what the opened set ignores: files with other extensions, images outside the class folders; "" for nothing."""
        used = itertools.chain.from_iterable(source.names.values())
        return files.ignored_files(files.existing_folder(self.root, "data.root"), used)

    def open(self) -> Source:
        """List the files.

        Raises:
            InputError: the folder is missing, there are fewer than two classes, a class folder has no images, or the validation or test
                folder has a class that train has not.
        """
        root = files.existing_folder(self.root, "data.root")
        require(any(root.iterdir()), "data.root", self.root, "the folder is empty; give one with a folder per class")
        splits = _split_folders(root) or {"train": _by_class(root, root)}
        classes = list(splits["train"])
        loose = sum(files.is_image(path) for path in root.iterdir())
        present = f"found {classes}" + (f" and {loose:,} images in none" if loose else "")
        require(len(classes) >= 2, "data.root", self.root, f"needs a folder for each of at least two classes, {present}")
        for split, by_class in splits.items():
            unknown = sorted(set(by_class) - set(classes))
            require(not unknown, f'data.root: classes in "{split}"', unknown[:5], "train has no folder of that name; rename or remove it")
        examples = {}
        for split, by_class in splits.items():
            images = [image for name in classes for image in by_class.get(name, ())]
            labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(by_class.get(name, ())) for name in classes])
            examples[split] = files.examples(images, labels)
        return make_source(classes, examples, self.valid_fraction, self.seed)


def _split_folders(root: Path) -> dict[str, dict[str, list[files.ImageFile]]]:
    """Return split to class to images; {} if there is no folder of training images."""
    folders = [(path.name.lower(), path) for path in files.subfolders(root) if files.subfolders(path)]
    names = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
    splits = {split: [path for name, path in folders if name in known] for split, known in names.items()}
    if not splits["train"]:
        return {}
    for paths in splits.values():
        if len(paths) > 1:
            raise InputError(f"data.root is {str(root)!r}; it has both {' and '.join(path.name for path in paths)}, keep one of them")
    return {split: _by_class(paths[0], root) for split, paths in splits.items() if paths}


def _by_class(folder: Path, root: Path) -> dict[str, list[files.ImageFile]]:
    by_class = {path.name: files.images_in(path, root) for path in files.subfolders(folder)}
    empty = [name for name, images in by_class.items() if not images]
    fix = f"put {', '.join(files.EXTENSIONS)} files in, or remove them"
    require(not empty, f"data.root: class folders of {str(folder)!r} without images", empty[:5], fix)
    return by_class
