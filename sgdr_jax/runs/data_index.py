"""Every image of a run by name, class and digest of its pixels, so that a run which goes on can tell what has changed: images.json.gz."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np

from ..core.errors import InputError
from ..core.files import write_atomically
from ..data.load import Data

FILE = "images.json.gz"

type _Images = dict[str, tuple[str, tuple[str, ...], str]]
"""Name, with a number for further images of that name, to split, classes and digest."""


class DataIndex(TypedDict):
    """The images of a run: names of the classes, and of each split the names, class numbers (several, or one) and digests in hex.

    `accepted` lists the changes with which the run went on.
    """

    classes: list[str]
    names: dict[str, list[str]]
    labels: dict[str, list[list[int]]]
    digests: dict[str, list[str]]
    accepted: NotRequired[list[str]]


def data_index(data: Data) -> DataIndex:
    """List the images of loaded data."""
    return {
        "classes": list(data.classes),
        "names": {split: list(names) for split, names in data.names.items()},
        "labels": {split: [_classes(label) for label in labels] for split, labels in data.labels.items()},
        "digests": {split: [f"{digest:016x}" for digest in data.digests[split].tolist()] for split in data.labels},
    }


def _classes(label: np.ndarray) -> list[int]:
    return [int(label)] if np.ndim(label) == 0 else np.flatnonzero(label).tolist()


def write_index(folder: str | Path, index: DataIndex) -> None:
    """Save the images of a run in its folder."""
    write_atomically(Path(folder) / FILE, gzip.compress(json.dumps(index).encode(), 6, mtime=0))


def read_index(folder: str | Path) -> DataIndex | None:
    """Read the images of a run; None for a run of an early version. Raises InputError where the file is damaged; gzip has a checksum."""
    path = Path(folder) / FILE
    try:
        return cast(DataIndex, json.loads(gzip.decompress(path.read_bytes())))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it, or use another run folder") from error


def changes(before: DataIndex, now: DataIndex, pixels: bool = True) -> list[str]:
    """Describe how the images of a run differ from those that it began with, as "2 images replaced ('cat/1.jpg', …)"; [] if not at all.

    Images whose name is new and whose pixels are those of one that is gone have been moved.

    Args:
        before: the images that it began with.
        now: those of today.
        pixels: whether the pixels must be the same, which they are not where images are stored in another size.
    """
    if before["classes"] != now["classes"]:
        return [f"the classes were {before['classes']} and are {now['classes']}"]
    old, new = _images(before), _images(now)
    added, removed = ([name for name in one if name not in other] for one, other in ((new, old), (old, new)))
    gone = {old[name][2]: name for name in removed}
    origins = {name: origin for name in added if (origin := gone.pop(new[name][2], ""))}
    left = set(origins.values())
    common = [name for name in old if name in new]
    kinds: Mapping[str, Iterable[str]] = {
        "added": (name for name in added if name not in origins),
        "removed or unreadable now": (name for name in removed if name not in left),
        "replaced": (name for name in common if pixels and old[name][2] != new[name][2]),
        "moved or renamed": (f"{origin} → {name}" for name, origin in origins.items()),
        "of another class": (name for name in common if old[name][1] != new[name][1]),
        "of another split": (name for name in common if old[name][0] != new[name][0]),
    }
    descriptions = [_told(kind, list(names), len(old)) for kind, names in kinds.items()]
    return [text for text in descriptions if text]


def replaced(folder: str | Path, split: str, names: Sequence[str], digests: np.ndarray) -> str:
    """Describe which images of a split have other pixels than when a run began; "" where none, or it is a run of an early version.

    Args:
        folder: the run folder.
        split: the split.
        names: of its images today.
        digests: uint64 [n], of their pixels, stored in the size of the run.
    """
    index = read_index(folder)
    if index is None or split not in index["names"]:
        return ""
    before = set(zip(index["names"][split], index["digests"][split], strict=True))
    known, now = {name for name, _ in before}, ((name, f"{digest:016x}") for name, digest in zip(names, digests.tolist(), strict=True))
    return _told("replaced", [one[0] for one in now if one[0] in known and one not in before], len(names))


def _told(kind: str, names: list[str], total: int) -> str:
    if not names:
        return ""
    shown = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
    hint = "; perhaps by another version of the decoder" if kind == "replaced" and len(names) == total else ""
    return f"{len(names):,} image{'s' * (len(names) > 1)} {kind} ({shown}{hint})"


def _images(index: DataIndex) -> _Images:
    images: _Images = {}
    for split, names in index["names"].items():
        for name, label, digest in zip(names, index["labels"][split], index["digests"][split], strict=True):
            key, number = name, 1
            while key in images:
                number += 1
                key = f"{name} ({number})"
            images[key] = split, tuple(index["classes"][i] for i in label), digest
    return images


def check_data(folder: str | Path, data: Data, *, accept: bool) -> list[str]:
    """Compare the data of a run that goes on with those that it began with, and record those that are accepted.

    Args:
        folder: the run folder.
        data: as loaded now.
        accept: go on with changed data.

    Returns:
        What has changed, as by `changes`.

    Raises:
        InputError: where the data have changed and are not accepted, or their classes have changed.
    """
    before, now = read_index(folder), data_index(data)
    changed = changes(before, now) if before else []
    if changed and (not accept or (before and before["classes"] != now["classes"])):
        fix = "add --accept-new-data to go on with these" if before and before["classes"] == now["classes"] else "no network fits both"
        raise InputError(
            f"the data are not those that run folder {folder} began with: {'; '.join(changed)}; {fix}, or use another run folder"
        )
    if changed or before is None:
        now["accepted"] = [*(before or now).get("accepted", ()), *changed]
        write_index(folder, now)
    return changed
