"""Sets of drawings for sets.py, from Debian packages: `clipart` by its folder, `emoji` by Unicode's subgroups, and `grids`, several
labels to a picture."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from packages import Found, Picture, halves, on_white, series, unpacked
from PIL import Image, ImageDraw, ImageFont

SIDE = 96
CELL = 48
GRIDS = {"train": 600, "test": 600}

# Class to folders of the Open Clip Art Library, with their subfolders.
CLIPART = {
    "beverage": "food/beverages",
    "bird": "animals/birds",
    "boat": "transportation/boating",
    "book": "education/books",
    "building": "buildings/homes",
    "clothing": "people/clothing",
    "dessert": "food/desserts",
    "fruit": "food/fruit",
    "furniture": "buildings/furniture",
    "hardware": "computer/hardware",
    "holiday": "recreation/holiday",
    "insect": "animals/bugs",
    "mammal": "animals/mammals",
    "music": "recreation/music",
    "plant": "plants",
    "road sign": "transportation/roadsigns",
    "sport": "recreation/sports",
    "tool": "tools",
    "vehicle": "transportation/vehicles",
    "weather": "signs_and_symbols/weather",
}
# Folders of the same library.
BROAD = (
    *("animals", "buildings", "education", "electronics", "food", "geography", "office", "people", "plants", "recreation"),
    *("signs_and_symbols", "tools", "transportation"),
)
MOST = 250
LARGEST = 20_000_000  # pixels of a drawing; a few posters are larger
# Class to subgroups of emoji-test.txt.
EMOJI = {
    "bird": "animal-bird",
    "building": "place-building",
    "bug": "animal-bug",
    "clothing": "clothing",
    "dish": "food-prepared food-asian",
    "drink": "drink dishware",
    "fruit": "food-fruit",
    "game": "game event",
    "household": "household",
    "instrument": "musical-instrument sound",
    "mammal": "animal-mammal",
    "office": "office",
    "paper": "book-paper mail",
    "plant": "plant-other plant-flower",
    "sea animal": "animal-marine animal-reptile",
    "sky": "sky & weather",
    "sport": "sport",
    "sweet": "food-sweet",
    "tool": "tool",
    "vegetable": "food-vegetable",
    "vehicle": "transport-ground",
}


def clipart(packages: Path) -> Iterator[Picture]:
    """Drawings by many hands, 96 px on white; variants of one drawing, told by their names, lie on one side."""
    return halves(_library(packages, CLIPART), key=series)


def drawings(packages: Path) -> Iterator[Picture]:
    """The same in broad classes, at most `MOST` of each."""
    return halves(_library(packages, {folder: folder for folder in BROAD}, MOST), key=series)


def _library(packages: Path, folders: dict[str, str], most: int | None = None) -> Iterator[Found]:
    """Drawings of the Open Clip Art Library from the folder of each class, with its subfolders; if only some, by the hashes of paths."""
    root = unpacked("openclipart-png", packages) / "usr/share/openclipart/png"
    Image.MAX_IMAGE_PIXELS = None  # the sizes are checked here

    def drawn(path: Path) -> bytes:
        return hashlib.sha256(str(path.relative_to(root)).encode()).digest()

    for label, folder in folders.items():
        paths, taken = sorted((root / folder).rglob("*.png"), key=drawn if most else None), 0
        for path in paths:
            if path.is_symlink() or taken == most:
                continue
            with Image.open(path) as image:
                if image.width * image.height <= LARGEST:
                    taken += 1
                    yield label, path.stem, on_white(image, SIDE)


def emoji(packages: Path) -> Iterator[Picture]:
    """Noto's emoji, 96 px on white, by subgroup of Unicode's list; no variants of skin or hair."""
    font = unpacked("fonts-noto-color-emoji", packages) / "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    face = ImageFont.truetype(str(font), 109, layout_engine=ImageFont.Layout.BASIC)  # the one size of its bitmaps
    classes = {group: label for label, groups in EMOJI.items() for group in _groups(groups)}

    def found() -> Iterator[Found]:
        label = None
        for line in (
            (unpacked("unicode-data", packages) / "usr/share/unicode/emoji/emoji-test.txt").read_text(encoding="utf-8").splitlines()
        ):
            if line.startswith("# subgroup:"):
                label = classes.get(line.partition(":")[2].strip())
            match = re.match(r"([0-9A-F]+)(?: FE0F)? +; fully-qualified", line)
            if label and match:
                yield label, match[1], _glyph(face, chr(int(match[1], 16)))

    return halves(found())


def _groups(text: str) -> list[str]:
    return ["sky & weather"] if "&" in text else text.split()


def _glyph(face: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    image = Image.new("RGBA", (136, 136), (255, 255, 255, 0))
    ImageDraw.Draw(image).text((68, 68), character, font=face, embedded_color=True, anchor="mm")
    return on_white(image, SIDE)


def grids(packages: Path) -> Iterator[Picture]:
    """Two by two cells of 48 px with no to four drawings of twelve kinds; the labels, separated by spaces, are the kinds that are there.

    Cells of training grids are drawn from the training half of `clipart`, those of test grids from its test half.
    """
    kinds = ("beverage", "bird", "building", "clothing", "dessert", "fruit", "insect", "mammal", "music", "plant", "sport", "vehicle")
    cells: dict[tuple[str, str], list[Image.Image]] = {}
    for split, label, _, image in clipart(packages):
        if label in kinds:
            image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
            cells.setdefault((split, label), []).append(image)
    draw = np.random.default_rng(0)
    for split, n in GRIDS.items():
        for i in range(n):
            grid, labels = Image.new("RGB", (2 * CELL, 2 * CELL), (255, 255, 255)), set()
            for cell in draw.permutation(4)[: draw.integers(5)]:
                kind = kinds[draw.integers(len(kinds))]
                picture = cells[split, kind][draw.integers(len(cells[split, kind]))]
                corner = (CELL * (cell % 2) + (CELL - picture.width) // 2, CELL * (cell // 2) + (CELL - picture.height) // 2)
                grid.paste(picture, tuple(map(int, corner)))
                labels.add(kind)
            yield split, " ".join(sorted(labels)), f"{split}{i:04d}", grid
