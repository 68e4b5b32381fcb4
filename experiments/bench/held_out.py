"""Sets for sets.py that chose no default of the package, from Debian packages: `surfaces` (photographed materials, UFO: Alien Invasion),
`sky` (photographs through telescopes, Stellarium) and `units` (sprites, The Battle for Wesnoth)."""

import gzip
import io
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from packages import Found, Picture, halves, on_white, unpacked
from PIL import Image

SIDE = 160

# Class to names of textures.
SURFACES = {
    "brick": "bricks_* brick0* wall_brick* streetbricks*",
    "carpet": "carpet*",
    "concrete": "concrete*",
    "door": "door0* door_?_*",
    "earth": "dirt_0* dirt_b* dirt0* drymud",
    "grass": "grass*",
    "metal": "metal*",
    "paving": "floor01[58] floor033 floor_se0[134] mattn-floor001 mattn-floor009 street01[12] paving001",
    "rock": "rock0* rocks_* pjrock*",
    "roof": "roof*",
    "tile": "tile*",
    "window": "window*",
    "wood": "wood* s_wood* floor_wood* wall_wood*",
}
# Blocks of stone, plain colours, tracks and paths, parts of doors and windows, and what is hard to tell from another class.
NOT_SURFACES = """bricks_c_1 bricks_g_? bricks_m_1 bricks_t_6 bricks_w_1 wall_bricks003 concrete_[bry]_? concrete_s_1 concrete019
concrete_slabs* mattn-concrete00[24] doors-door009 mattn-door034 mattn-door033 mattn-door054 mattn-door058 dirt-dirt* grass003_way*
grass nature-grass001 grass_*_[bc] grass_*_k1 metal_window metaldoor metalgrid material-metal01? metal0[12] metal_g_? mattn-metal[46]
roof00[467] tile5e tile_teracota* tiles_m_1 buildings-window00? window01[34] window_grey mattn-window007 mattn-wood006 wood007?
wood_palet wood_chips*"""
MAPS = re.compile(r"_(nm|gm|sm|lm|pls|norm|spec)$")  # how light falls on a texture, not what it looks like
ALIKE = 0.8  # correlation of grey thumbnails from which two textures count as one photograph
LONGEST = 2.5  # longer side to shorter one of a texture; pictures of doors and carpets are about twice as long

RECORD = (*("i4dI", "", "2di6d", "14i", "", "2i"), *[""] * 7, "5i")
"""Formats (`struct`) of the fields of a record of Stellarium's catalogue, "" for a text. The first ends in the object's type, the second
is its form, the fourth holds its numbers in 14 catalogues."""
CATALOGUES = {"n": 0, "ic": 1, "m": 2, "barnard": 4, "sh2-": 5, "rcw": 7, "ldn": 8, "lbn": 9, "p": 12, "u": 13}
"""How names of pictures begin, and the position of that catalogue among the 14."""
# Class to type of object and, for galaxies, pattern of their form in de Vaucouleurs' system (E3, S0, SB(s)bc …).
SKY = {
    "elliptical galaxy": (0, r"[cd]?E|(\(R'?\))?S[AB]*(\([rs]+\))?0"),
    "spiral galaxy": (0, r"(\(R'?\))?S[AB]*(\([rs]+\))?[abc]"),
    "interacting galaxies": (3, ""),
    "open cluster": (6, ""),
    "globular cluster": (7, ""),
    "planetary nebula": (11, ""),
    "dark nebula": (12, ""),
    "reflection nebula": (13, ""),
    "emission nebula": (17, ""),
}
# Clusters of which the nebula is seen, interacting galaxies that look like one, an empty picture.
NOT_SKY = {"ic1848", "n2244", "n2264", "n3572", "n1023", "n1316", "n7742", "n6522"}

# Class to pattern of "race folder/unit", the first that matches; what is left over belongs to no class.
UNITS = {
    "rider": r".*(/rider/|(?<!st)rider|cavalier|cavalryman|dragoon|horseman|knight/|lancer|paladin|gryphon-master)"
    "|(elf .*scout|goblin .*knight|wolf goblins|wolf .*direwolver)",
    "drake": "drake ",
    "dunefolk": "dunefolk ",
    "dwarf": "dwarf ",
    "elf": "elf ",
    "mage": "human (human-magi|undead-necromancers)/",
    "soldier": "human human-loyalists/",
    "outlaw": "human (human-outlaws|human-peasants)/",
    "merfolk": "merman ",
    "naga": "naga ",
    "orc": "orc ",
    "undead": "undead ",
    "beast": "(monster|bats|falcon|horse|wolf|gryphon) ",
}
NOT_UNITS = "*blank-hex *fireghost *firewraith *jinn *deep-tentacle"  # no beasts


def fits(name: str, patterns: str) -> bool:
    """Tell whether "folder-file", or the part after the folder, matches one of the patterns, which white space separates."""
    return any(fnmatchcase(part, pattern) for part in (name, name.partition("-")[2]) for pattern in patterns.split())


def linked(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return each name's group: the first of the names that it hangs together with through the pairs.

    >>> linked("abcd", [("b", "d"), ("d", "c")])
    {'a': 'a', 'b': 'b', 'c': 'b', 'd': 'b'}
    """
    above = {name: name for name in names}

    def first(name: str) -> str:
        while above[name] != name:
            name = above[name]
        return name

    for pair in pairs:
        low, high = sorted(map(first, pair))
        above[high] = low
    return {name: first(name) for name in above}


# ---- surfaces ----


def alike(found: list[Found]) -> Iterator[tuple[str, str]]:
    """Yield the names of pairs of one class that show one photograph: recoloured, lit or soiled another way, mirrored or turned."""
    grey = np.stack([np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64) for *_, image in found])
    grey -= grey.mean((1, 2), keepdims=True)
    grey /= np.maximum(np.linalg.norm(grey, axis=(1, 2), keepdims=True), 1e-9)
    turned = [np.rot90(side, k, (1, 2)) for side in (grey, grey[:, :, ::-1]) for k in range(4)]
    nearest = np.max([np.einsum("ihw,jhw->ij", grey, other) for other in turned], axis=0)
    for i, j in np.argwhere(np.triu(nearest > ALIKE, 1)):
        if found[i][0] == found[j][0]:
            yield found[i][1], found[j][1]


def surfaces(packages: Path) -> Iterator[Picture]:
    """Photographs of materials, without transparent parts and not too narrow; variants of one photograph lie on one side."""
    archive = unpacked("ufoai-textures", packages) / "usr/share/games/ufoai/base/0textures.pk3"
    found: list[Found] = []
    with zipfile.ZipFile(archive) as textures:
        for path in map(Path, sorted(textures.namelist())):
            name = f"{path.parent.name.removeprefix('tex_')}-{path.stem}"
            label = next((label for label, names in SURFACES.items() if fits(name, names)), None)
            if not label or fits(name, NOT_SURFACES) or MAPS.search(name) or path.suffix not in (".jpg", ".png"):
                continue
            image = Image.open(io.BytesIO(textures.read(path.as_posix())))
            if max(image.size) <= LONGEST * min(image.size) and np.asarray(image.convert("RGBA"))[..., 3].min() == 255:
                found.append((label, name, on_white(image, SIDE)))
    return halves(found, key=linked((name for _, name, _ in found), alike(found)).__getitem__)


# ---- sky ----


def catalogue(raw: bytes) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Yield type, form and numbers in 14 catalogues of each object of Stellarium's catalogue, unpacked.

    Source: the fields that Stellarium's `Nebula::readDSO` reads, written by Qt: two texts (version and edition), then the records; a text
    is its length in bytes, -1 for none, and UTF-16.
    """
    at = 0

    def read(form: str) -> tuple:
        nonlocal at
        start = at
        if form:
            at += struct.calcsize(f">{form}")
            return struct.unpack_from(f">{form}", raw, start)
        (length,) = read("i")
        start, at = at, at + max(length, 0)
        return (raw[start:at].decode("utf-16-be"),)

    for _ in ("version", "edition"):
        read("")
    while at < len(raw):
        fields = [read(form) for form in RECORD]
        yield fields[0][-1], fields[1][0], fields[3]


def sky(packages: Path) -> Iterator[Picture]:
    """Photographs of galaxies, clusters and nebulae by the type of object in the catalogue; several of one object lie on one side."""
    root = unpacked("stellarium-data", packages) / "usr/share/stellarium/nebulae/default"
    types: dict[str, tuple[int, str]] = {}
    for kind, form, numbers in catalogue(gzip.decompress((root / "catalog.dat").read_bytes())):
        for prefix, i in CATALOGUES.items():
            types.setdefault(f"{prefix}{numbers[i]}", (kind, form))

    def entry(name: str) -> str:
        return (re.match(rf"({'|'.join(CATALOGUES)})[1-9]\d*", name) or [""])[0]

    def found() -> Iterator[Found]:
        for path in sorted(root.glob("*.png")):
            kind, form = types.get(entry(path.stem), (None, ""))
            label = next((label for label, (of, pattern) in SKY.items() if kind == of and re.match(pattern, form)), None)
            if label and path.stem not in NOT_SKY:
                image = Image.open(path).convert("RGBA").convert("RGB")  # parts that fade out are black
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                yield label, path.stem, image

    return halves(found(), key=entry)


# ---- units ----


def units(packages: Path) -> Iterator[Picture]:
    """Sprites of units at rest, 72 px on white; a unit, the first that it is promoted to and both sexes lie on one side."""
    root = unpacked("wesnoth-1.16-data", packages) / "usr/share/games/wesnoth/1.16/data/core"
    found: list[Found] = []
    members: dict[str, list[str]] = {}  # unit to the names of its pictures and of those of units promoted to it
    for path in sorted((root / "units").rglob("*.cfg")):
        text = path.read_text(encoding="utf-8")
        for macro, value in re.findall(r"^#define (\w+)\n(.*)#enddef", text, re.M):
            text = text.replace(f"{{{macro}}}", value)
        fields = {
            key: match[1]
            for key in ("id", "race", "image", "advances_to")
            if (match := re.search(rf'^    {key}="?([^"\n~:]*)', text, re.M))
        }
        image = fields.get("image", "")
        for file in (image, image.replace(".png", "+female.png")):
            name = file.removeprefix("units/").removesuffix(".png")
            label = next((label for label, pattern in UNITS.items() if re.match(pattern, f"{fields.get('race')} {name}")), None)
            if label and (root / "images" / file).is_file() and not fits(name, NOT_UNITS):
                name = name.replace("/", "-")
                found.append((label, name, on_white(Image.open(root / "images" / file), SIDE)))
                for unit in (fields["id"], fields.get("advances_to", "null").split(",")[0]):
                    members.setdefault(unit, []).append(name)
    members.pop("null", None)
    pairs = [(names[0], name) for names in members.values() for name in names]
    return halves(found, key=linked((name for _, name, _ in found), pairs).__getitem__)
