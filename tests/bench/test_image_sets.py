"""The sets of public images: halves that share no drawing, archives and catalogues read back, rare classes, several labels to a picture."""

import gzip
import hashlib
import importlib
import io
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.datasets import CsvLabels, ImageFolder

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of experiments/bench as the scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name in ("drawings", "held_out", "packages", "photographs", "sets"):
        sys.modules.pop(name, None)


def pictures(n: int, seed: int = 0, side: int = 8) -> list[Image.Image]:
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(n)]


def test_halves_keep_the_variants_of_a_drawing_together(bench) -> None:
    packages = bench("packages")
    images = pictures(40)
    names = [f"{'abcdefghij'[i // 4]}_{i % 4:02d}" for i in range(40)]
    found = [(label, name, image) for label, part in (("x", 0), ("y", 1)) for name, image in list(zip(names, images, strict=True))[part::2]]
    dealt = list(packages.halves(found, key=packages.series))
    assert sorted(dealt, key=str) == sorted(packages.halves(found[::-1], key=packages.series), key=str)  # not by the order of the files
    sides: dict[tuple[str, str], set[str]] = {}
    for split, label, name, _ in dealt:
        sides.setdefault((label, packages.series(name)), set()).add(split)
    assert len(sides) == 20 and all(len(splits) == 1 for splits in sides.values())
    assert Counter((split, label) for split, label, *_ in dealt) == dict.fromkeys(
        (("train", "x"), ("test", "x"), ("train", "y"), ("test", "y")), 10
    )


def test_equal_pictures_are_kept_once(bench) -> None:
    image, other = pictures(2)
    dealt = list(bench("packages").halves([("x", "a", image), ("y", "b", image), ("x", "c", other)]))
    assert sorted((label, name) for _, label, name, _ in dealt) == [("x", "a"), ("x", "c")]


def archive(files: dict[str, bytes], version: int) -> bytes:
    """A Qt resource archive with one folder, laid out as Qt's rcc does."""
    names, name_at = b"", {}
    for name in ("images", *files):
        name_at[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    data, data_at = b"", {}
    for name, content in files.items():
        data_at[name] = len(data)
        data += struct.pack(">I", len(content)) + content
    late = b"\0" * 8 if version >= 2 else b""
    nodes = [struct.pack(">IHII", 0, 2, 1, 1) + late]  # the root, whose name is not told apart from that of its child
    nodes += [struct.pack(">IHII", name_at["images"], 2, len(files), 2) + late]
    nodes += [struct.pack(">IHHHI", name_at[name], 0, 0, 1, data_at[name]) + late for name in files]
    tree = b"".join(nodes)
    return struct.pack(">4s4I", b"qres", version, 20, 20 + len(tree), 20 + len(tree) + len(data)) + tree + data + names


@pytest.mark.parametrize("version", [1, 2])
def test_qt_archives_are_read(bench, tmp_path: Path, version: int) -> None:
    files = {"dam1.webp": b"water", "fisch_ü.webp": b"", "hammer.png": bytes(range(256))}
    (tmp_path / "a.rcc").write_bytes(archive(files, version))
    read = dict(bench("photographs").resources(tmp_path / "a.rcc"))
    assert {Path(path).name: content for path, content in read.items()} == files
    (tmp_path / "b.rcc").write_bytes(b"PK\3\4" + bytes(20))
    with pytest.raises(SystemExit, match="not a Qt resource archive"):
        bench("photographs").resources(tmp_path / "b.rcc")


def test_photographs_have_the_class_of_their_name(bench, tmp_path: Path) -> None:
    files = {}
    for name, image in zip(
        ("dam1.webp", "dam2.webp", "plier1.webp", "sideCutter1.webp", "geothermal.webp"), pictures(5, side=64), strict=True
    ):
        image.save(file := io.BytesIO(), "webp", lossless=True)
        files[name] = file.getvalue()
    path = tmp_path / "gcompris-qt-data/usr/share/gcompris-qt/rcc/categorization.rcc"
    path.parent.mkdir(parents=True)
    path.write_bytes(archive(files, 2))
    found = list(bench("photographs").photos(tmp_path))
    assert sorted((label, name) for _, label, name, _ in found) == [
        ("dam", "dam1"), ("dam", "dam2"), ("pliers", "plier1"), ("pliers", "sideCutter1")
    ]  # fmt: skip
    assert Counter(split for split, *_ in found) == {"train": 2, "test": 2}


def test_variants_of_a_photograph_lie_on_one_side(bench, tmp_path: Path) -> None:
    bricks, wood = pictures(6, side=64), pictures(4, seed=1, side=64)
    dark = Image.fromarray(np.asarray(bricks[0]) // 2)
    files = {f"tex_a/bricks_r_{i}": image for i, image in enumerate([*bricks, dark, bricks[1].rotate(90), bricks[2].convert("L")])}
    files |= {f"tex_b/wood00{i}": image for i, image in enumerate(wood)}
    files |= {"tex_a/bricks_r_1_nm": bricks[5], "tex_a/sky1": wood[0], "tex_b/wood_palet": wood[1]}  # a map, no class, left out
    files |= {"tex_b/wood009": bricks[3].resize((64, 16)), "tex_b/wood008": bricks[4].copy()}
    files["tex_b/wood008"].putalpha(128)
    path = tmp_path / "ufoai-textures/usr/share/games/ufoai/base/0textures.pk3"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in files.items():
            image.save(file := io.BytesIO(), "png")
            archive.writestr(f"textures/{name}.png", file.getvalue())
    sides = {name: split for split, _, name, _ in bench("held_out").surfaces(tmp_path)}
    assert sorted(sides) == [*(f"a-bricks_r_{i}" for i in range(9)), *(f"b-wood00{i}" for i in range(4))]
    assert all(sides[f"a-bricks_r_{i}"] == sides[f"a-bricks_r_{i + 6}"] for i in range(3))
    assert Counter(split for name, split in sides.items() if "wood" in name) == {"train": 2, "test": 2}


def catalogue(*objects: tuple[int, str, int, int]) -> bytes:
    """Stellarium's catalogue of objects with a type, a form and a number in the New General and in Messier's catalogue."""

    def text(content: str) -> bytes:
        return struct.pack(">i", 2 * len(content)) + content.encode("utf-16-be")

    rows = text("3.16") + text("standard")
    for kind, form, ngc, messier in objects:
        rows += struct.pack(">i4dI", 1, 0.1, 0.2, 9, 9, kind) + text(form) + struct.pack(">2di6d", *[1] * 9)
        rows += struct.pack(">14i", ngc, 0, messier, *[0] * 11) + text("Ced 1") + struct.pack(">2i", 0, 0)
        rows += struct.pack(">i", -1) * 6 + text("") + struct.pack(">5i", *[0] * 5)
    return rows


def test_the_sky_has_the_classes_of_the_catalogue(bench, tmp_path: Path) -> None:
    objects = [(0, "SB(rs)bc", 1, 0), (0, "E3", 2, 0), (0, "IBm", 3, 0), (7, "V", 4, 5), (19, "", 6, 0)]
    held_out = bench("held_out")
    assert [(kind, form, numbers[0], numbers[2]) for kind, form, numbers in held_out.catalogue(catalogue(*objects))] == objects
    folder = tmp_path / "stellarium-data/usr/share/stellarium/nebulae/default"
    folder.mkdir(parents=True)
    (folder / "catalog.dat").write_bytes(gzip.compress(catalogue(*objects)))
    for name, image in zip(("n1", "n1-b", "n2", "n3", "n4", "m5-vasey", "n6", "n7", "moon", "n0"), pictures(10, side=200), strict=True):
        image.save(folder / f"{name}.png")
    found = list(held_out.sky(tmp_path))
    assert sorted((label, name) for _, label, name, _ in found) == [
        ("elliptical galaxy", "n2"), ("globular cluster", "m5-vasey"), ("globular cluster", "n4"), ("spiral galaxy", "n1"),
        ("spiral galaxy", "n1-b")
    ]  # fmt: skip
    assert len({split for split, label, *_ in found if label == "spiral galaxy"}) == 1
    assert {image.size for *_, image in found} == {(160, 160)}


def test_units_that_are_promoted_lie_on_one_side(bench, tmp_path: Path) -> None:
    root = tmp_path / "wesnoth-1.16-data/usr/share/games/wesnoth/1.16/data/core"
    units = {"grunt": "warrior,archer", "warrior": "null", "archer": "null", "scout": "null"}
    images = iter(pictures(6))
    for folder in ("units/orcs", "images/units/orcs/new"):
        (root / folder).mkdir(parents=True)
    for name, after in units.items():
        text = f'#define PATH\norcs/new/#enddef\n[unit_type]\n    id={name}\n    race=orc\n    image="units/{{PATH}}{name}.png"\n'
        (root / f"units/orcs/{name}.cfg").write_text(f'{text}    advances_to={after}\n    [attack]\n        image="x.png"\n')
        next(images).save(root / f"images/units/orcs/new/{name}.png")
    next(images).save(root / "images/units/orcs/new/scout+female.png")
    next(images).save(root / "images/units/orcs/new/scout-attack.png")
    found = list(bench("held_out").units(tmp_path))
    sides = {name.removeprefix("orcs-new-"): split for split, _, name, _ in found}
    assert {label for _, label, *_ in found} == {"orc"} and sorted(sides) == ["archer", "grunt", "scout", "scout+female", "warrior"]
    assert sides["grunt"] == sides["warrior"] and sides["scout"] == sides["scout+female"]


def test_every_second_class_is_made_rare_in_training_only(bench) -> None:
    source = [(split, label, f"{i:02d}", pictures(1)[0]) for split in ("train", "test") for label in "abcd" for i in range(10)]
    kept = list(bench("sets").rare(source[::-1]))
    counts = Counter((split, label) for split, label, *_ in kept)
    assert [counts["train", label] for label in "abcd"] == [10, 2, 10, 2]
    assert all(counts["test", label] == 10 for label in "abcd")


def test_pictures_with_several_labels_are_a_csv_set(bench, tmp_path: Path) -> None:
    rows = [("train", "a b", "0"), ("train", "", "1"), ("train", "b", "2"), ("train", "a", "3"), ("test", "a b", "4"), ("test", "a", "5")]
    said = bench("sets").write_labels([(*row, image) for row, image in zip(rows, pictures(6), strict=True)], tmp_path / "grids")
    assert said.startswith("grids: 2 labels, 4 training and 2 test images")
    source = CsvLabels(str(tmp_path / "grids"), images="images", valid_fraction=0.25).open()
    assert source.classes == ("a", "b") and source.sizes["test"] == 2 and source.sizes["train"] + source.sizes["valid"] == 4
    assert source.labels["test"].tolist() == [[1, 1], [1, 0]]


def test_drawings_are_drawn_by_their_paths_and_none_is_too_large(bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawings = bench("drawings")
    monkeypatch.setattr(drawings, "BROAD", ("animals", "food"))
    monkeypatch.setattr(drawings, "MOST", 6)
    monkeypatch.setattr(drawings, "LARGEST", 100)
    root = tmp_path / "openclipart-png/usr/share/openclipart/png"
    for folder, images in (("animals", pictures(9)), ("food/fruit", pictures(4, seed=1)), ("food", pictures(2, seed=2, side=12))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            image.save(root / folder / f"{'abcdefghi'[i]}.png")
    (root / "food" / "link.png").symlink_to(root / "animals" / "a.png")
    made = list(drawings.drawings(tmp_path))
    assert Counter((split, label) for split, label, *_ in made) == {
        ("train", "animals"): 3, ("test", "animals"): 3, ("train", "food"): 2, ("test", "food"): 2
    }  # fmt: skip
    kept = {name for _, label, name, _ in made if label == "animals"}
    first = sorted("abcdefghi", key=lambda name: hashlib.sha256(f"animals/{name}.png".encode()).digest())[:6]
    assert kept == set(first)


def test_more_digits_are_the_same_ones(bench) -> None:
    pytest.importorskip("sklearn.datasets")
    sets = bench("sets")
    few, more = ({name for split, _, name, _ in sets.pictures_of(of, Path()) if split == "train"} for of in ("digits", "digits100"))
    assert len(few) == 500 and len(more) == 1000 and few < more


def test_digits_are_a_folder_of_classes(bench, tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    sets = bench("sets")
    said = sets.make("digits", tmp_path, tmp_path)
    assert said == sets.make("digits", tmp_path / "again", tmp_path)  # the same bytes each time
    assert "10 classes, 500 training and 1297 test images" in said
    source = ImageFolder(str(tmp_path / "digits")).open()
    assert source.sizes == {"train": 400, "valid": 100, "test": 1297}
    names = [path.stem for path in sorted((tmp_path / "digits").glob("*/*/*.png"))]
    assert sorted(names) == [f"{i:04d}" for i in range(1797)]  # every image once, in one split
    path = next((tmp_path / "digits" / "test").glob("*/0000.png"), None) or next((tmp_path / "digits").glob("*/*/0000.png"))
    assert np.abs(np.asarray(Image.open(path)) / 255 - datasets.load_digits().images[0] / 16).max() <= 0.5 / 255


def test_the_same_icon_is_never_on_both_sides(bench, tmp_path: Path) -> None:
    sets = bench("sets")
    assert not set(sets.TRAIN_THEMES) & set(sets.TEST_THEMES)
    shared = np.zeros((48, 48, 4), np.uint8)
    draw = np.random.default_rng(0)
    for package, theme in (sets.TRAIN_THEMES | sets.TEST_THEMES).items():
        folder = tmp_path / package / "usr/share/icons" / theme / "48x48" / "apps"
        folder.mkdir(parents=True)
        for name in ("computer", "printer"):  # printers are the same picture in all themes
            pixels = shared if name == "printer" else draw.integers(0, 256, (48, 48, 4), np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
    found = list(sets.icons(tmp_path))
    assert {label for _, label, _, _ in found} == {"computer"}
    assert sum(split == "test" for split, *_ in found) == len(sets.TEST_THEMES)
