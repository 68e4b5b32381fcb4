"""Image files in one folder per class."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.types import OMIT_DEFAULT, Dataset, Source
from ..core.validation import require
from . import files
from .examples import make_source
from .labels import form_notes, one_form
from .splits import SPLIT_OF, check_fraction


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Reads images from one folder per class: `root/train/CLASS/*`, with `root/valid` and `root/test` beside it, or `root/CLASS/*`.

    Split folders may be named in small letters or capitals, also `training`, `val`, `validation`, `dev` or `testing`. Without a
    validation folder, a share of each class is held out of the training images. A `test` folder without class folders holds unlabelled
    images and is left to `predict`. Hidden files are ignored; `Source.notes` tells of other files that are not used. Folder names that
    differ in their Unicode form only are one class.

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
    formats: tuple[files.ImageFormat, ...] = field(default=(), metadata=OMIT_DEFAULT)
    """Image formats to read besides the common ones: tiff, avif, heic."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)
        files.check_formats(self.formats)

    def open(self) -> Source:
        """List the files.

        Raises:
            InputError: the folder is missing, there are fewer than two classes, a class folder has no images, the validation folder has
                no class folders, or the validation or test folder has a class that train has not.
        """
        root = files.existing_folder(self.root, "data.root")
        require(any(root.iterdir()), "data.root", self.root, "the folder is empty; give one with a folder per class")
        extensions = files.extensions(self.formats)
        divided = _split_folders(root, extensions)
        splits = divided or {"train": _by_class(root, root, extensions)}
        notes = _without_images(root, divided) if divided else _split_names(root, list(splits["train"]))
        forms = one_form(name for by_class in splits.values() for name in by_class)
        splits = {split: _joined(by_class, forms) for split, by_class in splits.items()}
        classes = list(splits["train"])
        loose = sum(files.is_image(path, extensions) for path in root.iterdir())
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
        used = itertools.chain.from_iterable(part.names for part in examples.values())
        notes += [*form_notes(forms), *files.notes(root, used, extensions)]
        return make_source(classes, examples, self.valid_fraction, self.seed, notes=notes)


def _split_names(root: Path, classes: list[str]) -> list[str]:
    """Return a line about a class that is named as a split.

    Raises:
        InputError: several are, so that splits without class folders are more likely meant.
    """
    taken = [name for name in classes if name.lower() in SPLIT_OF]
    fix = "they hold images but no class folders; make a folder for each class in them, or rename them if they are classes"
    require(len(taken) < 2, f"data.root is {str(root)!r}: the list of folders named as splits", taken, fix)
    return [f"the folder {name!r} is taken for a class, since no folder train holds class folders" for name in taken]


def _without_images(root: Path, splits: Mapping[str, object]) -> list[str]:
    """Return a line about a validation folder that gives the set no images."""
    names = [path.name for path in files.subfolders(root) if SPLIT_OF.get(path.name.lower()) == "valid"]
    if not names or "valid" in splits:
        return []
    return [f"no images in class folders of {names[0]!r}, so a share of the training images is held out"]


def _joined(by_class: dict[str, list[files.ImageFile]], forms: dict[str, str]) -> dict[str, list[files.ImageFile]]:
    """Return class to images with one name for all Unicode forms of it."""
    joined: dict[str, list[files.ImageFile]] = {}
    for name, images in by_class.items():
        joined.setdefault(forms[name], []).extend(images)
    return joined


def _split_folders(root: Path, extensions: Sequence[str]) -> dict[str, dict[str, list[files.ImageFile]]]:
    """Return split to class to images; {} if there is no folder of training images."""
    folders = [(SPLIT_OF.get(path.name.lower()), path) for path in files.subfolders(root)]
    named = {split: [path for own, path in folders if own == split] for split in ("train", "valid", "test")}
    splits = {split: [path for path in paths if files.subfolders(path)] for split, paths in named.items()}
    if not splits["train"]:
        return {}
    loose = {
        path.name: sum(files.is_image(file, extensions) for file in path.iterdir())
        for path in named["valid"]
        if path not in splits["valid"]
    }
    for name, count in loose.items():
        fix = f"it has {count:,} images in no class folder; make a folder for each class in it, or move it elsewhere to hold a share out"
        require(not count, "data.root: the validation folder", name, fix)
    for paths in splits.values():
        if len(paths) > 1:
            raise InputError(f"data.root is {str(root)!r}; it has both {' and '.join(path.name for path in paths)}, keep one of them")
    return {split: _by_class(paths[0], root, extensions) for split, paths in splits.items() if paths}


def _by_class(folder: Path, root: Path, extensions: Sequence[str]) -> dict[str, list[files.ImageFile]]:
    by_class = {path.name: files.images_in(path, root, extensions) for path in files.subfolders(folder)}
    empty = [name for name, images in by_class.items() if not images]
    fix = f"put {', '.join(extensions)} files in, or remove them" + _further(folder, empty)
    deeper = next((path for name in empty[:5] for path in files.images_below(folder / name, extensions)[0]), "")
    if deeper and len(by_class) == 1 and len(files.subfolders(folder / empty[0])) > 1 and folder == root:
        fix = f"the set seems to lie inside, set data.root to {str(folder / empty[0])!r}"
    elif deeper:
        fix += f"; {Path(deeper).relative_to(root).as_posix()!r} lies deeper, move such images up"
    require(not empty, f"data.root: class folders of {str(folder)!r} without images", empty[:5], fix)
    return by_class


def _further(folder: Path, empty: Sequence[str]) -> str:
    """Return how to read the files of empty class folders, where a further format would do."""
    suffixes = {path.suffix for name in empty[:5] for path in (folder / name).iterdir()}
    return next((fix for suffix in sorted(suffixes) if (fix := files.format_fix(suffix))), "")
