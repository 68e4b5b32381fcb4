"""Sets of the TFDS catalogue: prepared by whom and in whatever format, read without TensorFlow."""

import io
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.cli import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.data.load import load
from sgdr_jax.datasets import Tfds, tfds


def prepared(
    folder: Path,
    name: str,
    counts: dict[str, int],
    shape: tuple[int | None, ...],
    several: bool = False,
    classes: str = "abc",
    feature: Any = None,
    value: Callable[[int], Any] | None = None,
) -> Path:
    """A set in TFDS format; encoded images need no TensorFlow to prepare. Image i is i grey levels bright and of class abc[i mod 3].

    `value` gives image i of another feature.
    """
    import tensorflow_datasets as library

    label = library.features.ClassLabel(names=list(classes))

    class Made(library.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = library.core.Version("1.0.0")

        def _info(self):
            image = feature or library.features.Image(shape=shape)
            features = {"image": image, "label": library.features.Sequence(label) if several else label}
            return library.core.DatasetInfo(builder=self, features=library.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(count) for split, count in counts.items()}

        def _generate_examples(self, count):
            for i in range(count):
                file = io.BytesIO()
                size = (shape[1] or 20 + i, shape[0] or 30)
                Image.new("L" if shape[2] == 1 else "RGB", size, i if shape[2] == 1 else (i, i, i)).save(file, "PNG")
                file.seek(0)
                shown = ["abc"[i % 3], "abc"[(i + 1) % 3]]
                yield i, {"image": value(i) if value else file, "label": shown if several else shown[0]}

    Made.name = name
    Made(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def encoded(level: int) -> bytes:
    """A PNG file whose size does not depend on its level."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def test_tfds_of_varied_sizes_stays_encoded(tmp_path):
    data = Tfds("pets", data_dir=str(prepared(tmp_path, "pets", {"train": 12, "test": 5}, (None, None, 3))))
    source = data.open()
    assert source.classes == ("a", "b", "c")
    assert source.sizes == {"train": 9, "valid": 3, "test": 5}
    loaded = load(source, canvas=16)
    for split in ("train", "valid", "test"):
        values = loaded.images[split][:][:, 8, 8, 0]
        assert (values % 3).tolist() == source.labels[split].tolist()
    assert sorted(np.concatenate([loaded.images["train"][:], loaded.images["valid"][:]])[:, 0, 0, 2].tolist()) == list(range(12))
    assert replace(data, train="train[:50%]", valid="train[50%:]", test="test").open().sizes == {"train": 6, "valid": 6, "test": 5}
    with pytest.raises(InputError, match=r"data.label is 'breed'; pets has the features image, label"):
        replace(data, label="breed").open()
    with pytest.raises(InputError, match="no split 'dev'"):
        replace(data, valid="dev").open()


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ({"train": "train+validation"}, (21, 4)),
        ({"train": "train+validation[:1]"}, (13, 4)),
        ({"train": "all"}, (25, 0)),
        ({"train": "train+test"}, (25, 0)),
        ({"valid": "test[:2]"}, (14, 0)),
        ({"train": "train[:50%]", "valid": "train[50%:]"}, (12, 4)),
    ],
)
def test_a_split_that_was_not_asked_for_has_no_image_of_the_others(tmp_path, splits, sizes):
    folder = prepared(tmp_path, "pets", {"train": 12, "validation": 9, "test": 4}, (None, None, 3))
    found = Tfds("pets", data_dir=str(folder), **splits).open().sizes
    assert (found["train"] + found["valid"], found.get("test", 0)) == sizes


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": "train[:80%]", "valid": "train[70%:]"}, r"data.valid is 'train\[70%:\]'; 2 of its images are in data.train"),
        ({"train": "all", "test": "test"}, "data.test is 'test'; 4 of its images are in data.train, 'all', too; give slices"),
        ({"valid": "test", "test": "test[3:]"}, "data.test is .*; 1 of its images are in data.valid"),
    ],
)
def test_splits_that_share_images_are_refused(tmp_path, splits, message):
    folder = prepared(tmp_path, "pets", {"train": 12, "test": 4}, (None, None, 3))
    with pytest.raises(InputError, match=message):
        Tfds("pets", data_dir=str(folder), **splits).open()


def test_tfds_small_images_are_arrays_and_several_labels_n_hot(tmp_path):
    source = Tfds("tiny", data_dir=str(prepared(tmp_path, "tiny", {"train": 6, "validation": 3}, (8, 8, 1), several=True))).open()
    assert source.items["train"].shape == (6, 8, 8, 1)
    values = source.items["train"][:, 0, 0, 0]
    assert source.labels["train"].tolist() == [[float(c in (v % 3, (v + 1) % 3)) for c in range(3)] for v in values.tolist()]
    assert source.sizes == {"train": 6, "valid": 3}


def test_tfds_errors_name_the_command(tmp_path):
    with pytest.raises(InputError, match=r"run once: sgdr-jax prepare mnist:3.0.1 --data-dir "):
        Tfds("mnist", "3.0.1", str(tmp_path)).open()
    for version in ("1.9.0", "1.10.0"):
        (tmp_path / "pets" / version).mkdir(parents=True)
        (tmp_path / "pets" / version / "dataset_info.json").write_text('{"fileFormat": "riegeli"}')
    with pytest.raises(InputError, match=r"1.10.0' is 'riegeli'; prepare it with"):
        Tfds("pets", data_dir=str(tmp_path)).open()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_was_read_of_every_record_is_kept(tmp_path, monkeypatch):
    data = Tfds("tiny", data_dir=str(prepared(tmp_path, "tiny", {"train": 12}, (8, 8, 3))))
    first = data.open()
    monkeypatch.setattr(tfds, "_read", lambda *_: pytest.fail("read again"))
    again = data.open()
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.items["train"], first.items["train"])
    (kept,) = (tmp_path / "cache/sgdr_jax/tfds").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.testing.assert_array_equal(data.open().items["train"], first.items["train"])
    assert kept.exists()
    monkeypatch.setattr(tfds, "_LIMIT", kept.stat().st_size)
    Tfds("other", data_dir=str(prepared(tmp_path, "other", {"train": 12}, (8, 8, 3)))).open()
    assert len(list(kept.parent.iterdir())) == 1 and not kept.exists()  # unused for longest


def test_the_records_of_a_split_are_identified_once(tmp_path, monkeypatch):
    """Each was, when its labels were read and again when its images were numbered."""
    data = Tfds("pets", data_dir=str(prepared(tmp_path, "pets", {"train": 12, "test": 5}, (None, None, 3))))
    seen = []
    content_ids = tfds.content_ids
    monkeypatch.setattr(tfds, "content_ids", lambda paths: seen.append(paths) or content_ids(paths))
    data.open()
    assert len(seen) == 2


def by_level(data: Tfds) -> dict[int, str]:
    """The name of the class of each image, by its grey level."""
    source = data.open()
    loaded = load(source, canvas=8)
    levels = np.concatenate([loaded.images[split][:][:, 4, 4, 0] for split in ("train", "valid")])
    labels = np.concatenate([loaded.labels[split] for split in ("train", "valid")])
    return {int(level): source.classes[label] for level, label in zip(levels, labels, strict=True)}


@pytest.mark.parametrize("shape", [(8, 8, 3), (None, None, 3)])
def test_a_set_that_was_prepared_anew_is_read_anew(tmp_path, shape):
    """Its description is equal where classes have another order; the labels of before stood for other names."""
    data = Tfds("pets", data_dir=str(tmp_path))
    right = {i: "abc"[i % 3] for i in range(12)}
    for classes in ("abc", "bca", "cab"):
        prepared(tmp_path, "pets", {"train": 12}, shape, classes=classes)
        assert by_level(data) == right
        shutil.rmtree(tmp_path / "pets")


@pytest.mark.parametrize("shape", [(8, 8, 3), (None, None, 3)])
def test_records_of_equal_size_and_time_are_told_apart(tmp_path, shape):
    """Labels and pixels of a set that was exchanged for another of equal description were those of before."""
    data = Tfds("pets", data_dir=str(tmp_path))
    described, levels, fingerprints = [], [], []
    for shift in (0, 1):
        png = lambda i, shift=shift: io.BytesIO(encoded(i + shift))  # noqa: E731
        prepared(tmp_path, "pets", {"train": 12}, shape, value=png)
        folder = tmp_path / "pets" / "1.0.0"
        for file in folder.iterdir():
            os.utime(file, (1_700_000_000, 1_700_000_000))
        described.append({file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".json", ".txt")})
        levels.append(min(by_level(data)))
        fingerprints.append(data.open().fingerprint)
        assert data.open().fingerprint == fingerprints[-1]
        shutil.rmtree(tmp_path / "pets")
    assert described[0] == described[1] and levels == [0, 1] and fingerprints[0] != fingerprints[1]


def test_a_set_that_was_moved_is_the_same(tmp_path):
    prepared(tmp_path / "here", "pets", {"train": 12}, (None, None, 3))
    before = Tfds("pets", data_dir=str(tmp_path / "here")).open()
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    assert Tfds("pets", data_dir=str(tmp_path / "there")).open().fingerprint == before.fingerprint


def tensor(shape: tuple[int | None, ...], kind: type, **options: Any) -> Any:
    import tensorflow_datasets as library

    return library.features.Tensor(shape=shape, dtype=kind, **options)


@pytest.mark.parametrize("side", [8, 100])
@pytest.mark.parametrize(
    ("channels", "kind", "words"),
    [
        ((3,), np.float32, r"float32 of shape \(\d+, \d+, 3\)"),
        ((13,), np.float32, r"float32 of shape \(\d+, \d+, 13\)"),
        ((13,), np.uint8, r"uint8 of shape \(\d+, \d+, 13\)"),
        ((2,), np.uint8, r"uint8 of shape \(\d+, \d+, 2\)"),
        ((1,), np.uint16, "uint16 of shape"),
        ((3,), np.int32, "int32 of shape"),
    ],
)
def test_arrays_that_are_no_images_of_8_bits_are_refused(tmp_path, side, channels, kind, words):
    """They were cast to 8 bits: floats up to 1 became black, and larger numbers what is left of them modulo 256."""
    shape = (side, side, *channels)
    prepared(tmp_path, "made", {"train": 6}, (8, 8, 3), feature=tensor(shape, kind), value=lambda i: np.full(shape, i, kind))
    with pytest.raises(InputError, match=rf"data\.image is 'image'; it holds {words}.*; name one with encoded images, or uint8") as error:
        Tfds("made", data_dir=str(tmp_path)).open()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (100, 120, 3), (8, 8)])
def test_arrays_of_8_bits_are_images(tmp_path, shape):
    prepared(tmp_path, "made", {"train": 12}, (8, 8, 3), feature=tensor(shape, np.uint8), value=lambda i: np.full(shape, i, np.uint8))
    assert by_level(Tfds("made", data_dir=str(tmp_path))) == {i: "abc"[i % 3] for i in range(12)}


@pytest.mark.parametrize(("mode", "shape", "kind"), [("I;16", (8, 8, 1), np.uint16), ("RGBA", (8, 8, 4), np.uint8)])
def test_images_that_are_not_grey_or_colour_of_8_bits_stay_encoded(tmp_path, mode, shape, kind):
    import tensorflow_datasets as library

    def png(i: int) -> io.BytesIO:
        file = io.BytesIO()
        pixels = np.full(shape[:2], 257 * i, np.uint16) if mode == "I;16" else np.full(shape, (i, i, i, 255), np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        return io.BytesIO(file.getvalue())

    prepared(tmp_path, "deep", {"train": 12}, (8, 8, 3), feature=library.features.Image(shape=shape, dtype=kind), value=png)
    assert by_level(Tfds("deep", data_dir=str(tmp_path))) == {i: "abc"[i % 3] for i in range(12)}


@pytest.mark.parametrize("small", [True, False])
def test_a_set_in_tensorflows_own_format_is_used_as_it_is(tmp_path, small):
    """TFRecord files hold length, checksum, record, checksum; the checksums are not looked at."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    data = Tfds("pets", data_dir=str(prepared(tmp_path, "pets", {"train": 12, "test": 5}, (8, 8, 3) if small else (None, None, 3))))
    wanted = data.open()
    for file in tmp_path.glob("pets/1.0.0/*array_record*"):
        with ArrayRecordDataSource(str(file)) as records:
            parts = [len(r).to_bytes(8, "little") + bytes(4) + r + bytes(4) for r in (records[i] for i in range(len(records)))]
        file.with_name(file.name.replace("array_record", "tfrecord")).write_bytes(b"".join(parts))
        file.unlink()
    info = tmp_path / "pets/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    got = data.open()
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(got.labels[split], wanted.labels[split])
        assert len(got.items[split]) == len(wanted.items[split])
        for i in range(len(got.items[split])):
            np.testing.assert_array_equal(got.items[split][i], wanted.items[split][i])
    half = replace(data, train="train[:6]", valid="train[50%:]").open()
    assert half.sizes == {"train": 6, "valid": 6, "test": 5}
    stored = dict(zip(wanted.names["train"] + wanted.names["valid"], [*wanted.labels["train"], *wanted.labels["valid"]], strict=True))
    assert half.labels["valid"].tolist() == [stored[f"train/{i}"] for i in range(6, 12)]


def test_prepare_uses_what_is_there_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    folder = prepared(tmp_path, "tiny", {"train": 6}, (8, 8, 3))
    main.main(["prepare", "tiny", "--data-dir", str(folder)])
    assert f"tiny: {folder}/tiny/1.0.0" in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(InputError, match="no_such_set_at_all cannot be prepared"):
        tfds.prepare("no_such_set_at_all", str(tmp_path))

    import tensorflow_datasets as library

    class Needy:
        def download_and_prepare(self):
            raise ModuleNotFoundError("no", name="tensorflow")

    monkeypatch.setattr(library, "builder", lambda *_, **__: Needy())
    with pytest.raises(SystemExit) as stopped:
        main.main(["prepare", "cifar10", "--data-dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert "preparing cifar10 needs tensorflow; pip install 'sgdr_jax[prepare]'" in capsys.readouterr().err
    assert "tensorflow" not in sys.modules


def test_splits_that_are_not_used_are_told(tmp_path):
    data = Tfds("more", data_dir=str(prepared(tmp_path, "more", {"train": 12, "test": 5, "extra": 3}, (None, None, 3))))
    assert data.open().notes == ("more: not used: the split extra",)
    assert replace(data, train="train[:50%]+extra", valid="train[50%:]").open().notes == ()
    assert replace(data, train="train[10%:]", test="train[:10%]").open().notes == ("more: not used: the splits extra, test",)
