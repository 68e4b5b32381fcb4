"""Labels that are part of the file names."""

from __future__ import annotations

import posixpath
import re
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
class FileNames(Dataset):
    """Reads labels from file names: class ← first group of `pattern` in the name, such as cat in `cat_0001.jpg` by `^(.+)_\\d+`.

    Images may lie in folders, which are part of their names: `images/cat_0001.jpg`. If those in the innermost folder that holds all images
    are called `train`, `valid` and `test`, they divide the images. Deeper ones do not; they are refused if nothing divides the images, and
    one of them is called `train` and another `test` or `valid`.

    Source: `from_name_re` of fastai.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("great_dane_1.jpg", "great_dane_2.jpg", "pug_1.jpg", "pug_2.jpg"):
        ...         Path(root, name).touch()
        ...     source = FileNames(root, r"^(.+)_\\d+", valid_fraction=0.5).open()
        >>> source.classes, source.sizes
        (('great_dane', 'pug'), {'train': 2, 'valid': 2})
    """

    root: str = "data"
    """The folder."""
    pattern: str = ""
    """Regular expression, whose first group is the class; it is searched for in the name relative to the folder, with / and extension."""
    valid_fraction: float = 0.2
    """Share of each class held out for validation, if there is no folder for it."""
    seed: int = 0
    """Seed of the held-out split."""
    formats: tuple[files.ImageFormat, ...] = field(default=(), metadata=OMIT_DEFAULT)
    """Image formats to read besides the common ones: tiff, avif, heic."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_fraction)
        files.check_formats(self.formats)
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise InputError(f"data.pattern is {self.pattern!r}; not a regular expression ({error})") from error
        require(not self.pattern or groups > 0, "data.pattern", self.pattern, r"put the class in parentheses, as in '^(.+)_\d+'")

    def open(self) -> Source:
        """List the files.

        Raises:
            InputError: the folder has no images, a name does not match, a class is empty, there are fewer than two, or the folders
                that seem to be splits lie too deep to divide the images.
        """
        root = files.existing_folder(self.root, "data.root")
        extensions = files.extensions(self.formats)
        paths = files.images_below(root, extensions)[0]
        require(bool(paths), "data.root", self.root, f"there are no images in it, only {', '.join(extensions)} count")
        folders = sorted({Path(path).parent for path in paths})
        images = [image for folder in folders for image in files.images_in(folder, root, extensions)]
        tops = {image.name.rpartition("/")[0] for image in images}
        single = tops.pop() if len(tops) == 1 else ""
        lead = f"all images lie in the folder {single!r}: add one for each other class, or" if single else "without class folders,"
        places = sorted({image.name.split("/")[0] for image in images if image.name.count("/") > 1})
        if places and not single and all(SPLIT_OF.get(place.lower(), "train") != "train" for place in places):
            lead = f"there are class folders in {' and '.join(places)}, but none in train: add it, or rename a folder to train; otherwise"
        start = "([^/]+)" if "/" in images[0].name else "^(.+)"
        fix = rf"{lead} give a regular expression whose first group is the class of {images[0].name!r}: '{start}_\d+'"
        require(bool(self.pattern), "data.pattern", self.pattern, fix)
        splits, notes = _divided(images)
        names = {image.name: self._class_of(image.name) for part in splits.values() for image in part}
        unmatched = [name for name, label in names.items() if not label]
        fix = f"{len(unmatched)} of {len(names)} names do not match, such as {unmatched[:3]}; change it, or move those files elsewhere"
        require(not unmatched, "data.pattern", self.pattern, fix)
        forms = one_form(names.values())
        classes = sorted(set(forms.values()))
        number = {name: i for i, name in enumerate(classes)}
        examples = {
            split: files.examples(part, np.array([number[forms[names[image.name]]] for image in part], np.int32))
            for split, part in splits.items()
        }
        notes += [*form_notes(forms), *files.notes(root, names, extensions)]
        return make_source(classes, examples, self.valid_fraction, self.seed, notes=notes)

    def _class_of(self, name: str) -> str:
        """Return the class in a name; "" if it does not match."""
        match = re.search(self.pattern, name)
        return (match[1] or "").strip() if match else ""


def _divided(images: list[files.ImageFile]) -> tuple[dict[str, list[files.ImageFile]], list[str]]:
    """Return split to images: by the folders in the innermost one of all, if one of these is called train, else all are for training.

    Raises:
        InputError: two folders are of one split; or none divides the images, and they are called train and as another split is, so that
            they are more likely meant to than classes.
    """
    parents = {image.name: image.name.split("/")[:-1] for image in images}
    distinct = {"/".join(parts): parts for parts in parents.values()}
    shared = [folder for folder in posixpath.commonpath(distinct).split("/") if folder]
    depth = next((i for i, folder in enumerate(shared) if folder.lower() in SPLIT_OF), len(shared))
    divider = {name: "/".join(parts[: depth + 1]) if len(parts) > depth else "" for name, parts in parents.items()}
    split_of = {folder: SPLIT_OF.get(folder.rpartition("/")[2].lower(), "") for folder in divider.values()}
    inner = max(depth + 1, len(shared))
    deeper = {"/".join(p[: i + 1]): SPLIT_OF.get(p[i].lower(), "") for p in distinct.values() for i in range(inner, len(p))}
    known = deeper if "train" in split_of.values() or len(split_of) == 1 else deeper | split_of
    called = sorted(folder for folder, split in known.items() if split)
    others = [folder for folder in called if known[folder] != "train"]
    divides = depth == len(shared) and "train" in split_of.values()
    fix = f"only folders in {'/'.join(shared[:depth]) or 'data.root'!r} divide the images; set data.root to what holds them, or rename them"
    require(divides or not others or others == called, "data.root: folders called as splits", called[:5], fix)
    notes = []
    if deep := [folder for folder in others if folder in deeper]:
        notes.append(f"folders called as splits lie too deep to divide the images, such as {deep[0]!r}")
    if "train" not in split_of.values():
        taken = sorted(folder for folder, split in split_of.items() if split)
        notes += [f"the folder {name!r} does not divide the images, since there is no folder train" for name in taken]
        return {"train": images}, notes
    splits: dict[str, list[files.ImageFile]] = {}
    for split in ("train", "valid", "test"):
        folders = sorted(folder for folder, own in split_of.items() if own == split)
        require(len(folders) < 2, "data.root: the folders of the split " + split, folders, "keep one of them")
        if folders:
            splits[split] = [image for image in images if divider[image.name] == folders[0]]
    return splits, notes
