"""Images to predict, in whatever form they are given: one by one, as paths of files or as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..core.errors import InputError
from ..core.types import Dataset
from ..core.validation import require
from ..datasets.files import ImageFormat, extensions, formats_of, images_below, other_files
from .decode import ImagesLike, LazyEncoded, as_array, to_items


def expand(paths: Sequence[str], say: Callable[[str], None] = lambda text: None, formats: Sequence[ImageFormat] = ()) -> list[str]:
    """Replace folders by the image files below them, sorted, without hidden ones; files are kept whatever their name.

    Args:
        paths: files and folders.
        say: called with a line for each folder that holds other files or hidden images.
        formats: to read besides the common ones.

    Raises:
        InputError: a path does not exist, or a folder has no images.
    """
    files, known = list[str](), extensions(formats)
    for name in paths:
        path = Path(name)
        require(bool(name) and os.path.exists(path), "path", name, "there is no such file or folder; name image files, or folders of them")
        if not path.is_dir():
            files.append(str(path))
            continue
        inside, hidden = images_below(path, known)
        require(bool(inside), "path", str(path), "name a folder that holds image files")
        files += inside
        rest = other_files(path, (Path(image).relative_to(path).as_posix() for image in inside), known, hidden_too=False)
        counts = [f"{len(hidden):,} hidden image{'s' * (len(hidden) > 1)}"] * bool(hidden) + [rest] * bool(rest)
        if counts:
            say(f"{path}: not predicted: {', '.join(counts)}")
    return files


def gather_images(images: ImagesLike, say: Callable[[str], None] = lambda text: None, data: Dataset | None = None) -> list[LazyEncoded]:
    """Return images one by one, as paths of files and arrays; `say` as in `expand`, with the formats of a dataset, if one is given.

    A picture of Pillow that cannot be read becomes a function that raises the reason, as a damaged file is noticed when it is decoded.

    Raises:
        InputError: a path does not exist, a folder has no images, an array has another type or shape, something is no image, or there
            are no images.
    """
    given, formats = _several(images), formats_of(data) if data else ()
    items: list[LazyEncoded] = []
    for name, image in [("image", images)] if given is None else ((f"image {i}", image) for i, image in enumerate(given)):
        items += expand([_path(image, name)], say, formats) if isinstance(image, str | os.PathLike) else to_items(image, name)
    require(bool(items), "images", "none", "name image files, or folders of them")
    return items


def _path(image: str | os.PathLike[str], name: str) -> str:
    path = os.fspath(image)
    if isinstance(path, str):
        return path
    raise InputError(f"{name} is a path of bytes, {path!r}; give it as text: os.fsdecode(path)")


def _several(images: object) -> Iterable[object] | None:
    """Return the images that a list, an iterator or an array of paths holds; None for what is one image or an array of images.

    Raises InputError, with the fix, for what holds images in no order, or as something else than values.
    """
    if isinstance(images, str | os.PathLike):
        return None
    if isinstance(images, set | frozenset):
        raise InputError(f"images is a {type(images).__name__}, which has no order; give a list, such as sorted(…) of paths")
    if isinstance(images, Mapping):
        raise InputError(f"images is a {type(images).__name__}; give its values: list(images.values())")
    if hasattr(images, "__array__"):
        array = as_array(images)
        return array.ravel().tolist() if array.dtype.kind in "OUT" else None
    known = not isinstance(images, bytes | bytearray | memoryview) and not hasattr(images, "read")
    return images if known and isinstance(images, Iterable) else None
