"""What image sets made from Debian packages share: unpacking without root, pictures on white, and fixed halves for training and test."""

import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

Picture = tuple[str, str, str, Image.Image]
"""Split, class, name of the file, picture."""
Found = tuple[str, str, Image.Image]
"""Class, name, picture: not split yet."""


def unpacked(package: str, folder: Path) -> Path:
    """Return the folder that holds the files of a Debian package, fetched and unpacked there if it is not yet."""
    target = folder / package
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package], cwd=folder, check=True)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
    return target


def on_white(image: Image.Image, side: int | None = None) -> Image.Image:
    """Return the picture in RGB, transparent parts white, made smaller so that no side is longer than `side` pixels."""
    if side:
        image.draft("RGB", (2 * side, 2 * side))  # large JPEGs are decoded at a fraction of their size
        image = image.convert("RGBA")
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def series(name: str) -> str:
    """Return what variants of one drawing have in common: the name up to its first digit or mark of a variant.

    >>> series("candy_02_simple_bw"), series("hat_-_cap_01"), series("lemon_simple")
    ('candy', 'hat', 'lemon')
    """
    stem = re.sub(r"(_simple|_bw|_outline|_color|_black|_white|_md|-md|_simplified).*$", "", re.split(r"\d|_-_", name.lower())[0])
    return stem.strip("_-. ") or name


def halves(found: Iterable[Found], key=lambda name: name) -> Iterator[Picture]:
    """Split each class into halves by the hash of its names; names with the same key (variants of one drawing) stay on one side.

    Of pictures that are equal pixel by pixel only the first is kept. Groups are dealt in the order of their hashes, each to the side
    that has fewer pictures, the first to training.
    """
    classes: dict[str, dict[str, list[tuple[str, Image.Image]]]] = {}
    seen: set[bytes] = set()
    for label, name, image in sorted(found, key=lambda picture: picture[:2]):
        if image.tobytes() not in seen:
            seen.add(image.tobytes())
            classes.setdefault(label, {}).setdefault(key(name), []).append((name, image))
    for label, groups in classes.items():
        sizes = {"train": 0, "test": 0}
        for group in sorted(groups, key=lambda group: hashlib.sha256(f"{label}/{group}".encode()).digest()):
            split = min(sizes, key=sizes.__getitem__)
            sizes[split] += len(groups[group])
            yield from ((split, label, name, image) for name, image in groups[group])
