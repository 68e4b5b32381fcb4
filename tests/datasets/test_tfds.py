"""Sets of the TFDS catalogue: prepared by whom and in whatever format, read without TensorFlow."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.cli import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.data.load import load
from sgdr_jax.datasets import Tfds, tfds


def prepared(
    folder: Path, name: str, counts: dict[str, int], shape: tuple[int | None, ...], several: bool = False, file_format: str = "array_record"
) -> Path:
    """A set in TFDS format; encoded images need no TensorFlow to prepare. Image i is i grey levels bright and of class i mod 3."""
    import tensorflow_datasets as library

    label = library.features.ClassLabel(names=["a", "b", "c"])

    class Made(library.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = library.core.Version("1.0.0")

        def _info(self):
            features = {"image": library.features.Image(shape=shape), "label": library.features.Sequence(label) if several else label}
            return library.core.DatasetInfo(builder=self, features=library.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(count) for split, count in counts.items()}

        def _generate_examples(self, count):
            for i in range(count):
                file = io.BytesIO()
                size = (shape[1] or 20 + i, shape[0] or 30)
                Image.new("L" if shape[2] == 1 else "RGB", size, i if shape[2] == 1 else (i, i, i)).save(file, "PNG")
                file.seek(0)
                yield i, {"image": file, "label": [i % 3, (i + 1) % 3] if several else i % 3}

    Made.name = name
    Made(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


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
