"""Sets of photographs for sets.py, from Debian's educational packages: `photos` (GCompris) and `stamps` (cut out on white, Tux Paint)."""

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from packages import Found, Picture, halves, on_white, unpacked
from PIL import Image

SIDE = 160
QRC = struct.Struct(">4s4I")  # mark, version, offsets of the tree, the data and the names

# Class to the names of its files without their numbers, in GCompris' activity "categorization".
PHOTOS = {
    "dam": "dam",
    "fish": "fish",
    "hammer": "hammer",
    "measuring tape": "measuringTape",
    "pliers": "plier sideCutter cuttingTool",
    "scissors": "scissors",
    "screwdriver": "screwDriver",
    "solar power": "solar",
    "windmill": "windmill",
}
MONUMENTS = "/images/monuments/"
# Class to folders below Tux Paint's stamps, searched without their subfolders; drawings lie in folders named cartoon.
STAMPS = {
    "bird": "animals/birds",
    "carnivore": "animals/mammals/bears animals/mammals/cats animals/mammals/dogs",
    "fish": "animals/fish",
    "flower": "plants/flowers",
    "fruit": "food/fruit",
    "hoofed animal": "animals/mammals/bovines animals/mammals/camel animals/mammals/deer animals/mammals/equines",
    "insect": "animals/insects",
    "instrument": "hobbies/music/brass hobbies/music/percussion hobbies/music/string hobbies/music/wind",
    "planet": "space/moon space/planets",
    "road sign": "town/roadsigns",
    "rodent": "animals/mammals/rodents",
    "tool": "household/tools",
    "tree": "plants/trees",
    "vegetable": "food/vegetables",
}
# Another kind of animal or thing than its folder says.
NOT_STAMPS = {
    "lobster",
    "shrimp",
    "Brown_slug",
    "Woodlouse",
    "pinecone",
    "rambutan",
    "holly_leaf",
    "measuring_tape_mirror",
    "xing_school_mirror",
}


def resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each uncompressed file of a Qt resource archive (.rcc).

    Source: the format that Qt's `qresource.cpp` reads: a tree of nodes of 14 bytes (22 from version 2 on), each with the offset of its
    name, flags (2: a folder, 1 and 4: compressed), and for a folder number and index of its children, for a file the offset of its data.
    """
    raw = path.read_bytes()
    mark, version, tree, data, names = QRC.unpack_from(raw)
    if mark != b"qres":
        raise SystemExit(f"{path} is not a Qt resource archive")

    def walk(index: int, parent: str) -> Iterator[tuple[str, bytes]]:
        at = tree + index * (14 if version < 2 else 22)
        name_at, flags = struct.unpack_from(">IH", raw, at)
        length = struct.unpack_from(">H", raw, names + name_at)[0]
        name = raw[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack_from(">II", raw, at + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{parent}/{name}" if name else parent)
        elif not flags & 5:
            start = data + struct.unpack_from(">I", raw, at + 10)[0]
            yield f"{parent}/{name}", raw[start + 4 : start + 4 + struct.unpack_from(">I", raw, start)[0]]

    return walk(0, "")


def photos(packages: Path) -> Iterator[Picture]:
    """Photographs of tools, power plants, fish and monuments, each half of a class chosen by the hash of the names."""
    classes = {name: label for label, names in PHOTOS.items() for name in names.split()}

    def found() -> Iterator[Found]:
        for path, content in resources(unpacked("gcompris-qt-data", packages) / "usr/share/gcompris-qt/rcc/categorization.rcc"):
            stem = Path(path).stem
            label = "monument" if MONUMENTS in path else classes.get(re.sub(r"\d+$", "", stem))
            if label and path.endswith(".webp"):
                yield label, stem, on_white(Image.open(io.BytesIO(content)), SIDE)

    return halves(found())


def stamps(packages: Path) -> Iterator[Picture]:
    """Photographs of animals, plants, food and things, cut out on white."""
    root = unpacked("tuxpaint-stamps-default", packages) / "usr/share/tuxpaint/stamps"

    def found() -> Iterator[Found]:
        for label, folders in STAMPS.items():
            for path in (path for folder in folders.split() for path in sorted((root / folder).glob("*.png"))):
                if path.stem not in NOT_STAMPS:
                    yield label, path.stem, on_white(Image.open(path), SIDE)

    return halves(found(), key=lambda name: re.sub(r"(?<=[a-z])[-_\d].*$", "", name.lower()))  # tiger and tiger_sumatran lie on one side
