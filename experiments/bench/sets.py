"""Public image sets as plain folders, train/CLASS/*.png and test/CLASS/*.png, for comparisons of whole recipes.

    python experiments/bench/sets.py DIR

Makes DIR/fashion10, fashion50, fashion500 (Fashion-MNIST with so many training images per class, all 10,000 test images), digits
(scikit-learn, 50 training images per class, the others test), letters (A…Z in both cases, one font of each of a hundred Debian
packages; trained on some fonts, tested on the others) and icons (48 px icons by name from Debian's icon themes; trained on some
themes, tested on others); photos and stamps (photographs from GCompris and Tux Paint, 160 px), clipart and emoji (drawings, 96 px), each
split in halves; surfaces and sky (photographs from UFO: Alien Invasion and Stellarium, 160 px) and units (sprites from The Battle for
Wesnoth, 72 px), also halves, made after the defaults were chosen; drawings (of broader classes than clipart, 96 px), digits100
and letters48, with about 1,000 training images; digits-rare and fashion50-rare, where every second class has a fifth of its training
images; and grids, several labels to a picture, as a CSV file beside its images. Needs scikit-learn, and apt-get and dpkg, or the unpacked
packages in --packages. The same packages give the same bytes; the script prints each set's counts and the SHA-256 of all its pixels.
"""

import argparse
import csv
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import drawings
import held_out
import numpy as np
import photographs
from packages import Picture, on_white, unpacked
from PIL import Image, ImageDraw, ImageFont

SETS = (
    *("icons", "digits", "letters", "photos", "stamps", "clipart", "emoji", "grids"),
    *("surfaces", "sky", "units"),
    *("drawings", "digits100", "letters48"),
    *("fashion10", "fashion50", "fashion500", "digits-rare", "fashion50-rare"),
)

# One face of each package stands for the package: several faces of one family are too alike to be split between training and test.
FONTS = """3270 adf-accanthis adf-gillius adf-oldania agave allerta anonymous-pro apropal arapey averia-sans-gwf b612 beteckna blankenburg
breip cabin cabinsketch cantarell cardo century-catalogue clear-sans comfortaa comic-neue courier-prime crosextra-caladea
crosextra-carlito dancingscript dejavu-core dkg-handwriting dosis dustin ebgaramond ecolier-court engadget essays1743 eurofurence fanwood
femkeklaver freefont-ttf gfs-artemisia gfs-didot gfs-neohellenic gnutypewriter go gotico-antiqua goudybookletter havana hermit humor-sans
inconsolata isabella jetbrains-mono joscelyn junction jura karla kaushanscript kristi lato league-spartan leckerli-one levien-museum
levien-typoscript liberation lindenhill linuxlibertine lobster lobstertwo manrope monofur monoid mononoki national-park ocr-a ocr-b okolaks
oldstandard open-sans opendyslexic oxygen play prociono quattrocento quicksand radisnoir roboto-slab routed-gothic rufscript sil-gentium
sjfonts sora staypuft stix summersby tiresias tomsontalks tuffy ubuntu-title yanone-kaffeesatz"""
TRAIN_FONTS = 12

# Of themes that share drawings (gnome and mate, Faenza and Obsidian) only one is used; both sides have plain and framed icons.
TRAIN_THEMES = {
    "gnome-icon-theme": "gnome",
    "oxygen-icon-theme": "oxygen",
    "elementary-xfce-icon-theme": "elementary-xfce",
    "faenza-icon-theme": "Faenza",
}
TEST_THEMES = {"lxde-icon-theme": "nuoveXT2", "moka-icon-theme": "Moka", "paper-icon-theme": "Paper"}
# Names of the freedesktop specification that stand for a thing of their own; a class needs three distinct training pictures and two others.
ICONS = """accessories-calculator accessories-character-map accessories-text-editor application-x-executable applications-games
applications-graphics applications-internet applications-multimedia applications-office applications-science audio-volume-high
audio-x-generic battery bookmark-new camera-photo camera-web computer contact-new dialog-error dialog-information dialog-warning
document-new document-open document-print document-properties document-save drive-harddisk drive-optical edit-clear edit-copy edit-cut
edit-delete edit-find edit-paste edit-undo emblem-important emblem-favorite folder folder-remote font-x-generic format-justify-left
format-text-bold format-text-italic format-text-underline go-down go-up go-home help-browser image-x-generic input-keyboard input-mouse
input-gaming input-tablet list-add list-remove mail-attachment mail-unread mail-message-new media-eject media-floppy media-optical
media-flash media-playback-pause media-playback-start media-playback-stop media-record multimedia-player network-wired network-wireless
network-workgroup network-server package-x-generic phone pda preferences-desktop-wallpaper preferences-desktop-font
preferences-desktop-locale printer process-stop scanner system-file-manager system-lock-screen system-log-out system-shutdown system-users
text-html text-x-generic text-x-script user-trash user-desktop user-home utilities-terminal utilities-system-monitor video-display
video-x-generic view-fullscreen view-refresh web-browser weather-clear weather-few-clouds weather-showers weather-snow weather-storm
weather-overcast x-office-calendar x-office-document x-office-spreadsheet x-office-presentation x-office-address-book zoom-in zoom-out
avatar-default call-start insert-image insert-link appointment-new preferences-system security-high software-update-available"""


# ---- Fashion-MNIST ----


def fashion(per_class: int) -> Iterator[Picture]:
    """Random training images of each class, and all test images."""
    from sgdr_jax.datasets import FashionMnist

    source = FashionMnist(train_per_class=per_class).open()
    for split, name in (("train", "train"), ("valid", "train"), ("test", "test")):
        for i, (pixels, label) in enumerate(zip(source.items[split], source.labels[split], strict=True)):
            yield name, _folder_name(source.classes[int(label)]), f"{split}{i:05d}", Image.fromarray(np.asarray(pixels).reshape(28, 28))


def _folder_name(text: str) -> str:
    return text.replace("/", "-")


# ---- digits ----


def digits(per_class: int = 50) -> Iterator[Picture]:
    """scikit-learn's handwritten digits, 8 px, in a random order that is always the same."""
    from sklearn.datasets import load_digits

    data = load_digits()
    seen = [0] * 10
    for i in np.random.default_rng(0).permutation(len(data.target)):
        label = int(data.target[i])
        seen[label] += 1
        pixels = np.round(data.images[i] * (255 / 16)).astype(np.uint8)
        yield "train" if seen[label] <= per_class else "test", str(label), f"{i:04d}", Image.fromarray(pixels)


# ---- letters ----


def letters(packages: Path, size: int = 64, fonts: int = TRAIN_FONTS) -> Iterator[Picture]:
    """Black letters on white, centred, at one font size, one small and one capital of each font, the first `fonts` for training.

    Fonts that draw some of the letters alike are left out (no lower case).
    """
    usable = []
    for name in FONTS.split():
        glyphs = {
            c: _glyph(_face(unpacked(f"fonts-{name}", packages)), c, size) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        }
        distinct = {image.tobytes() for image in glyphs.values()}
        if len(distinct) == len(glyphs):
            usable.append((name, glyphs))
    # Training fonts by the hash of their names: a draw that does not depend on which other fonts there are.
    usable.sort(key=lambda pair: hashlib.sha256(pair[0].encode()).digest())
    for rank, (name, glyphs) in enumerate(usable):
        for letter, image in glyphs.items():
            case = "capital" if letter.isupper() else "small"
            yield "train" if rank < fonts else "test", letter.upper(), f"{name}-{case}", image


def _face(package: Path) -> Path:
    """The package's plain face: "regular" in its name if there is one, else the shortest name."""
    faces = [path for path in package.rglob("*") if path.suffix.lower() in (".ttf", ".otf") and path.is_file() and not path.is_symlink()]
    return min(faces, key=lambda path: ("regular" not in path.stem.lower(), len(path.stem), path.name))


def _glyph(face: Path, letter: str, size: int) -> Image.Image:
    image = Image.new("L", (size, size), 255)
    font = ImageFont.truetype(str(face), round(0.7 * size), layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(letter)
    at = ((size - left - right) / 2, (size - top - bottom) / 2)
    ImageDraw.Draw(image).text(at, letter, fill=0, font=font)
    return image


# ---- icons ----


def icons(packages: Path) -> Iterator[Picture]:
    """Icons of 48 px on white, one class per name; of equal pictures only the first is kept."""
    sides = {"train": TRAIN_THEMES, "test": TEST_THEMES}
    seen: set[bytes] = set()
    found: dict[str, dict[str, list[tuple[str, Image.Image]]]] = {name: {"train": [], "test": []} for name in ICONS.split()}
    for split, themes in sides.items():
        for package, theme in themes.items():
            paths = _theme(unpacked(package, packages) / "usr/share/icons" / theme)
            for name in ICONS.split():
                image = on_white(Image.open(paths[name])) if name in paths else None
                if image and image.tobytes() not in seen:
                    seen.add(image.tobytes())
                    found[name][split].append((theme, image))
    for name, splits in found.items():
        if len(splits["train"]) >= 3 and len(splits["test"]) >= 2:
            yield from ((split, name, theme, image) for split, pictures in splits.items() for theme, image in pictures)


@functools.cache
def _theme(folder: Path) -> dict[str, Path]:
    """Name to file of a theme's icons of 48 px (or 24 px at double density); the first in alphabetical order where there are several."""
    paths = sorted(path for path in folder.rglob("*.png") if path.is_file())
    fits = [path for path in paths if {"48", "48x48", "24x24@2x"} & set(path.relative_to(folder).parts)]
    return {path.stem: path for path in reversed(fits)}


# ---- rare classes ----


def rare(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """Every second class keeps a fifth of its training images, those whose names come first; the test images stay as they are."""
    ordered = sorted(pictures, key=lambda picture: picture[:3])
    cut = sorted({label for _, label, _, _ in ordered})[1::2]
    seen: dict[str, int] = {}
    total = {label: sum(split == "train" and of == label for split, of, _, _ in ordered) for label in cut}
    for split, label, name, image in ordered:
        if split == "train" and label in cut:
            seen[label] = seen.get(label, 0) + 1
            if seen[label] > max(total[label] // 5, 1):
                continue
        yield split, label, name, image


# ---- folders ----


def write(pictures: Iterable[Picture], folder: Path, suffix: str = ".png") -> str:
    """Writes the pictures; returns a line with the counts and the hash of all pixels."""
    counts, classes, digest = {"train": 0, "test": 0}, set(), hashlib.sha256()
    for split, label, name, image in sorted(pictures, key=lambda picture: picture[:3]):
        path = folder / split / label / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **({"quality": 92} if suffix == ".jpg" else {}))
        counts[split] += 1
        classes.add(label)
        digest.update(f"{split}/{label}/{name} {image.size} {image.mode}".encode() + image.tobytes())
    return f"{folder.name}: {len(classes)} classes, {counts['train']} training and {counts['test']} test images, {digest.hexdigest()[:16]}"


def write_labels(pictures: Iterable[Picture], folder: Path) -> str:
    """Writes pictures with several labels: all of them into `images`, and `labels.csv` with the columns image, labels and split."""
    counts, classes, digest = {"train": 0, "test": 0}, set(), hashlib.sha256()
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("image", "labels", "split"))
        for split, labels, name, image in pictures:
            image.save(folder / "images" / f"{name}.png")
            rows.writerow((f"{name}.png", labels, split))
            counts[split] += 1
            classes.update(labels.split())
            digest.update(f"{name} {labels}".encode() + image.tobytes())
    return f"{folder.name}: {len(classes)} labels, {counts['train']} training and {counts['test']} test images, {digest.hexdigest()[:16]}"


def pictures_of(name: str, packages: Path) -> Iterator[Picture]:
    """The pictures of a set with one label to each."""
    if name.endswith("-rare"):
        return rare(pictures_of(name.removesuffix("-rare"), packages))
    if name.startswith("fashion"):
        return fashion(int(name.removeprefix("fashion")))
    if name.startswith("digits"):
        return digits(int(name.removeprefix("digits") or 50))
    if name.startswith("letters"):
        return letters(packages, fonts=int(name.removeprefix("letters") or 2 * TRAIN_FONTS) // 2)
    makers = {"icons": icons, "photos": photographs.photos, "stamps": photographs.stamps}
    makers |= {"clipart": drawings.clipart, "drawings": drawings.drawings, "emoji": drawings.emoji}
    makers |= {"surfaces": held_out.surfaces, "sky": held_out.sky, "units": held_out.units}
    return makers[name](packages)


def make(name: str, folder: Path, packages: Path) -> str:
    """Makes one set under its name in the folder."""
    if name == "grids":
        return write_labels(drawings.grids(packages), folder / name)
    return write(pictures_of(name, packages), folder / name, ".jpg" if name in ("photos", "stamps", "surfaces", "sky") else ".png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="SET", help="only these: %(choices)s")
    parser.add_argument("--packages", type=Path, help="where Debian packages are unpacked (default: packages in the folder)")
    options = parser.parse_args()
    for name in options.sets:
        if (options.folder / name).exists():
            sys.exit(f"{options.folder / name} is there already; remove it or name another folder")
        print(make(name, options.folder, options.packages or options.folder / "packages"), flush=True)


if __name__ == "__main__":
    main()
