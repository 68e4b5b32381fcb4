"""An opened dataset made ready: images, labels and names that stay together, whatever cannot be read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.core import threads
from sgdr_jax.core.errors import InputError
from sgdr_jax.data.load import Canvas, canvas_side, load, load_for, load_some, tell_unreadable
from sgdr_jax.data.sampler import expected_draws
from sgdr_jax.datasets import Arrays, ImageFolder, Mix, Synthetic, TrainAndValid
from sgdr_jax.recipes.fine_tune import describe

from ..helpers import Said, experiment


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def folder(root: Path, n: int = 24, broken: tuple[int, ...] = ()) -> ImageFolder:
    for i in range(n):
        path = root / ("train" if i % 4 else "valid") / ("ab"[i // 2 % 2]) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken" if i in broken else encoded(Image.new("L", (9, 12), i), "PNG"))
    return ImageFolder(str(root))


def test_load_keeps_images_labels_and_names_together(tmp_path):
    calls = []
    source = folder(tmp_path).open()
    data = load(source, canvas=8, progress=lambda done, total: calls.append((done, total)))
    assert data.sizes == source.sizes == {"train": 18, "valid": 6}
    assert (data.classes, data.channels, data.bad, data.multi_label) == (("a", "b"), 1, (), False)
    for split in ("train", "valid"):
        assert data.images[split].shape == (len(source.labels[split]), 8, 8, 1)
        assert data.images[split][:][:, 0, 0, 0].tolist() == [int(Path(name).stem) for name in data.names[split]]
        np.testing.assert_array_equal(data.labels[split], source.labels[split])
    assert calls[-1] == (24, 24)


def test_load_does_not_depend_on_the_number_of_threads(tmp_path, monkeypatch):
    source = folder(tmp_path).open()
    monkeypatch.setattr(threads, "cores", lambda: 1)
    alone = load(source, canvas=8, images="decoded")
    monkeypatch.setattr(threads, "cores", lambda: 7)
    together = load(source, canvas=8)
    for split in ("train", "valid"):
        np.testing.assert_array_equal(alone.images[split][:], together.images[split][:])
    assert alone.fingerprint == together.fingerprint


def test_unreadable_images_are_left_out_by_name(tmp_path):
    source = folder(tmp_path, broken=(0, 5)).open()
    data = load(source, canvas=8, max_bad_share=0.1)
    assert [name for name, _ in data.bad] == ["train/a/05.png", "valid/a/00.png"]
    assert data.sizes == {"train": 17, "valid": 5}
    said: list[str] = []
    tell_unreadable(data.bad, 24, said.append)
    assert [line[:27] for line in said] == ["left out train/a/05.png: no", "left out valid/a/00.png: no", "2 of 24 image files could n"]
    for split in ("train", "valid"):
        assert data.images[split][:][:, 0, 0, 0].tolist() == [int(Path(name).stem) for name in data.names[split]]
        assert data.labels[split].tolist() == ["ab".index(name.split("/")[1]) for name in data.names[split]]
    with pytest.raises(InputError, match=r"of 24 images cannot be read, max_bad_share is 0.01.*train/a/05.png: not an image") as error:
        load(source, canvas=8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("broken", [(), (1,), (1, 2, 5, 6, 9, 10)])
def test_what_is_left_of_a_weighted_mixture_is_drawn_in_proportion(tmp_path, broken):
    """The rates of images that were left out went to the last class of the last set."""
    parts = (TrainAndValid(folder(tmp_path / "whole")), TrainAndValid(folder(tmp_path / "torn", broken=broken)))
    source = Mix(parts, weights=(1.0, 3.0)).open()
    data = load(source, canvas=8, max_bad_share=0.2)
    assert source.rates is not None and data.rates is not None and data.sizes["train"] == 48 - len(broken)
    assert data.rates.sum() == pytest.approx(data.sizes["train"])
    kept = [source.rates[source.names["train"].index(name)] for name in data.names["train"]]
    np.testing.assert_allclose(data.rates / data.rates.sum(), np.array(kept) / sum(kept))
    np.testing.assert_allclose(expected_draws(data.labels["train"], 0.0, data.rates), data.rates)
    if not broken:
        np.testing.assert_array_equal(data.rates, source.rates)


def test_one_bad_image_of_twenty_is_too_many_by_default_and_none_left_is_an_error(tmp_path):
    with pytest.raises(InputError, match="1 of 20 images"):
        load(folder(tmp_path / "one", 20, broken=(3,)).open(), canvas=8)
    with pytest.raises(InputError, match="no readable image is left of split 'valid'"):
        load(folder(tmp_path / "valid", 24, broken=tuple(range(0, 24, 4))).open(), canvas=8, max_bad_share=1)
    with pytest.raises(InputError, match="no readable image is left of class 'b'"):
        load(folder(tmp_path / "class", 24, broken=(2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23)).open(), canvas=8, max_bad_share=1)


def test_a_split_loads_alike_with_and_without_a_cache_of_all(tmp_path, monkeypatch):
    """An `eval` of a run was refused once the cache was gone: one of 6 images is a larger share than one of 24."""
    source = folder(tmp_path / "set", broken=(0, 5, 9)).open()
    found = []
    for cached in (False, True):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(cached)))
        if cached:
            load(source, canvas=8, max_bad_share=0.13)
        found.append(load(source, canvas=8, only="valid", max_bad_share=0.13))
        with pytest.raises(InputError, match="1 of 24 images cannot be read"):
            load(source, canvas=8, only="valid")
    alone, of_all = found
    assert alone.bad == of_all.bad == (("valid/a/00.png", alone.bad[0][1]),) and alone.fingerprint == of_all.fingerprint
    np.testing.assert_array_equal(alone.images["valid"][:], of_all.images["valid"][:])


@pytest.mark.parametrize("resize", ["crop", "squish", "pad"])
@pytest.mark.parametrize("trained_on", ["larger arrays", "smaller arrays", "files"])
def test_a_split_of_arrays_is_as_large_alone_as_with_the_others(tmp_path, monkeypatch, trained_on, resize):
    """`eval` of a run whose training arrays were larger saw other pixels than the run did, and exports another size of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    side = 12 if trained_on == "smaller arrays" else 40
    train, test = (np.random.default_rng(0).integers(0, 256, (4, n, n + 2), np.uint8) for n in (side, 24))
    data = Arrays.of(*((part, np.arange(4) % 2) for part in (train, train, test)))
    source = (Mix((folder(tmp_path / "set"), data)) if trained_on == "files" else data).open()
    without_cache = load(source, canvas=Canvas(64, resize), channels=1, only="test")
    run = load(source, canvas=Canvas(64, resize), channels=1)
    for side in (64, run.images["train"].shape[1]):
        np.testing.assert_array_equal(load(source, canvas=Canvas(side, resize), channels=1, only="test").images["test"], run.images["test"])
    np.testing.assert_array_equal(without_cache.images["test"], run.images["test"])
    for side in (64, run.images["train"].shape[1]):
        np.testing.assert_array_equal(load_some(source, [2, 0], side, 1, resize).images["some"][:], run.images["train"][:][[2, 0]])


def test_a_sample_without_a_readable_image_is_named_for_people(tmp_path):
    source = folder(tmp_path, 24, broken=tuple(range(24))).open()
    with pytest.raises(InputError, match="no readable image is left of the training images; repair"):
        load_some(source, [0, 1, 2], canvas=8)


def test_load_changes_the_fingerprint_with_what_it_makes(tmp_path):
    source = folder(tmp_path).open()
    assert len({load(source, canvas=canvas, channels=channels).fingerprint for canvas in (8, 9) for channels in (1, 3)}) == 4


@pytest.mark.parametrize(
    ("shape", "canvas", "channels", "result"),
    [
        ((6, 28, 28), 64, None, (6, 28, 28, 1)),
        ((6, 28, 28, 1), 64, 3, (6, 28, 28, 3)),
        ((6, 28, 28, 3), 64, 1, (6, 28, 28, 1)),
        ((6, 28, 40, 3), 64, None, (6, 28, 28, 3)),
        ((6, 28, 40, 3), 20, None, (6, 20, 20, 3)),
        ((6, 28, 28), 28, None, (6, 28, 28, 1)),
    ],
)
def test_arrays_keep_their_size_up_to_the_canvas(shape, canvas, channels, result):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = load(Arrays.of((images, np.arange(6) % 2), (images, np.arange(6) % 2)).open(), canvas=canvas, channels=channels)
    assert data.images["train"].shape == data.images["valid"].shape == result
    if result[1] == 28 and channels != 1:
        middle = images.reshape(6, 28, images.shape[2], -1)[:, :, (images.shape[2] - 28) // 2 :][:, :, :28]
        np.testing.assert_array_equal(data.images["train"], np.broadcast_to(middle, result))


def test_arrays_that_fit_are_not_copied_and_splits_get_one_side():
    images = np.zeros((4, 10, 10, 3), np.uint8)
    source = Arrays.of((images, [0, 1, 0, 1]), (np.full((2, 6, 8), 9, np.uint8), [0, 1])).open()
    data = load(source, canvas=canvas_side(None, 30))
    assert np.shares_memory(data.images["train"], images)
    assert data.images["valid"].shape == (2, 10, 10, 3)
    assert (data.images["valid"] == 9).all()
    assert load(source, canvas=canvas_side(None, 8)).images["train"].shape == (4, 10, 10, 3)  # 1.15 · 8 = 9.2, rounded up


def test_links_that_lead_nowhere_are_named(tmp_path):
    data = folder(tmp_path)
    (tmp_path / "train" / "a" / "loop.png").symlink_to("loop.png")
    (tmp_path / "train" / "a" / "gone.png").symlink_to("nowhere.png")
    found = load(data.open(), canvas=8, max_bad_share=0.1)
    assert found.bad == (("train/a/gone.png", "no such file"), ("train/a/loop.png", "no such file"))
    assert found.sizes == {"train": 18, "valid": 6}


def test_what_is_not_used_is_said_before_decoding(tmp_path):
    data = folder(tmp_path)
    ui = Said()
    load_for(experiment(data=data), data.open(), ui)
    assert ui.lines == []
    (tmp_path / "train" / "a" / "notes.heic").write_bytes(b"")
    load_for(experiment(data=data), data.open(), ui)
    assert ui.lines == ["not part of the set: 1 file (1 .heic)"]


def test_labels_that_do_not_vary_are_said_by_what_loads_and_by_what_looks():
    source = Synthetic(classes=3, train=12, valid=6, side=8, multi_label=True).open()
    source.labels["train"][:, 1] = source.labels["valid"][:, 1] = 1
    source.labels["train"][:2, [0, 2]] = source.labels["valid"][:2, [0, 2]] = [[0, 1], [1, 0]]
    loaded, looked = Said(), Said()
    load_for(experiment(), source, loaded)
    describe(source, experiment().data, looked)
    (line,) = [line for line in loaded.lines if "do not vary" in line]
    assert line in looked.lines and line.endswith("leaves out: 'rings1' (train, valid)")


def test_the_way_to_make_images_square_is_part_of_what_is_kept(tmp_path):
    root = tmp_path / "set"
    for i in range(8):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("L", (16, 8), 200)
        image.paste(0, (4, 0, 12, 8))  # the centre square alone is black
        path.write_bytes(encoded(image, "PNG"))
    source = ImageFolder(str(root)).open()
    ways = ("crop", "squish", "pad")
    found = {way: load(source, canvas=Canvas(8, way)) for way in ways}
    assert len({data.fingerprint for data in found.values()}) == 3 and all("earlier" not in data.storage_reason for data in found.values())
    assert all("earlier run" in load(source, canvas=Canvas(8, way)).storage_reason for way in ways)
    first = {way: data.images["train"][:][0, :, :, 0] for way, data in found.items()}
    assert (first["crop"] == 0).all()
    assert (first["squish"] == [[200, 200, 0, 0, 0, 0, 200, 200]] * 8).all()
    assert (first["pad"][[0, 1, 6, 7]] == 0).all() and (first["pad"][2:6] == [[200, 200, 0, 0, 0, 0, 200, 200]] * 4).all()
    for images in ("decoded", "streamed", "resident"):
        np.testing.assert_array_equal(load(source, canvas=Canvas(8, "pad"), images=images).images["train"][:][0, :, :, 0], first["pad"])


@pytest.mark.parametrize(("way", "side"), [("crop", 8), ("squish", 16), ("pad", 16)])
def test_arrays_are_made_square_alike(way, side):
    images = np.zeros((4, 8, 16), np.uint8)
    images[:, :, 4:12] = 90
    found = load(Arrays.of((images, np.arange(4) % 2), (images, np.arange(4) % 2)).open(), canvas=Canvas(99, way)).images["train"][:]
    assert found.shape == (4, side, side, 1)
    assert found.mean() == pytest.approx({"crop": 90, "squish": 45, "pad": 22.5}[way], abs=1)
