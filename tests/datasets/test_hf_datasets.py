"""Folders that are read through the package `datasets`, the same images, labels and splits as they were written with."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.types import Source
from sgdr_jax.data.load import load
from sgdr_jax.datasets import HfDatasets, hf_datasets
from sgdr_jax.datasets.detect import detect
from sgdr_jax.datasets.splits import SPLIT_OF

NAMES = ("cat", "dog", "eel")
SIZES = {"train": 24, "test": 6}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = sys.modules.get("datasets")
    if datasets:
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (9, 8), level).save(file, "PNG")
    return file.getvalue()


def archives(root: Path) -> None:
    root.mkdir()
    for split, count in SIZES.items():
        with tarfile.open(root / f"{split}-000.tar", "w") as archive:
            for i in range(count):
                more = {"name": NAMES[i % 3], "all": [NAMES[i % 3], "dog"]}
                for suffix, content in (("png", png(i)), ("cls", str(i % 3).encode()), ("json", json.dumps(more).encode())):
                    member = tarfile.TarInfo(f"{i:04}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def metadata(root: Path) -> None:
    for split, count in SIZES.items():
        (root / split).mkdir(parents=True)
        for i in range(count):
            (root / split / f"{i}.png").write_bytes(png(i))
        table = pa.table({"file_name": [f"{i}.png" for i in range(count)], "label": [NAMES[i % 3] for i in range(count)]})
        pq.write_table(table, root / split / "metadata.parquet")


def classes(root: Path) -> None:
    for split, count in SIZES.items():
        for i in range(count):
            folder = root / split / NAMES[i % 3]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}.png").write_bytes(png(i))


def shards(root: Path) -> None:
    """Two configurations, which the README tells."""
    for place, shift in (("plain", 0), ("other", 1)):
        (root / place).mkdir(parents=True)
        for split, count in SIZES.items():
            cells = [{"bytes": png(i), "path": None} for i in range(count)]
            table = pa.table({"photo": cells, "label": [NAMES[(i + shift) % 3] for i in range(count)]})
            features = {"photo": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            pq.write_table(table, root / place / f"{split}-00000-of-00001.parquet")
    configurations = "".join(f"- config_name: {place}\n  data_dir: {place}\n" for place in ("plain", "other"))
    (root / "README.md").write_text(f"---\nconfigs:\n{configurations}---\n")


def saved(root: Path) -> None:
    import datasets

    archives(root.with_name("before"))
    datasets.load_dataset(str(root.with_name("before"))).save_to_disk(str(root))


def check(source: Source, shift: int = 0) -> None:
    """The level of an image tells its number, and so its class."""
    assert source.sizes == {"train": 18, "valid": 6, "test": 6}
    loaded = load(source, canvas=8)
    for split, labels in source.labels.items():
        levels = loaded.images[split][:][:, 0, 0, 0].astype(int)
        numbers = labels if labels.ndim == 1 else np.argmax(labels, axis=1)
        assert ((levels + shift) % 3).tolist() == numbers.tolist()
    assert loaded.images["test"][:][:, 0, 0, 0].tolist() == list(range(6)) or source.classes == NAMES


@pytest.mark.huggingface
@pytest.mark.parametrize(
    ("lay", "options", "names"),
    [
        (archives, {}, ("0", "1", "2")),
        (archives, {"label": "json.name"}, NAMES),
        (metadata, {}, NAMES),
        (classes, {}, NAMES),
        (shards, {"configuration": "plain"}, NAMES),
        (saved, {}, ("0", "1", "2")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_images_labels_and_splits(tmp_path: Path, lay: Callable[[Path], None], options: dict[str, str], names: tuple[str, ...]) -> None:
    root = tmp_path / "set"
    lay(root)
    source = HfDatasets(str(root), **options).open()
    assert source.classes == names
    check(source)
    assert HfDatasets(str(root), **options).open().fingerprint == source.fingerprint


@pytest.mark.huggingface
def test_configurations_are_told_apart_and_unknown_ones_refused(tmp_path: Path) -> None:
    shards(tmp_path / "set")
    check(HfDatasets(str(tmp_path / "set"), configuration="other").open(), shift=1)
    with pytest.raises(InputError, match=r"cannot read it: .*plain.*other"):
        HfDatasets(str(tmp_path / "set")).open()
    with pytest.raises(InputError, match=r"cannot read it: BuilderConfig 'third' not found"):
        HfDatasets(str(tmp_path / "set"), configuration="third").open()


@pytest.mark.parametrize("names", [("validation", "dev"), ("train", "training"), ("test", "testing")])
def test_splits_of_one_meaning_are_refused(tmp_path: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of them was taken, and nothing said of the others."""
    monkeypatch.setattr(hf_datasets, "_library", lambda: None)
    monkeypatch.setattr(hf_datasets, "_flat", lambda library, data: data)
    monkeypatch.setattr(HfDatasets, "_load", lambda *_: dict.fromkeys(("train", *names)))
    with pytest.raises(InputError, match=rf"are taken for {SPLIT_OF[names[0]]} is \['{names[0]}', '{names[1]}'\]; keep one of them"):
        HfDatasets(str(tmp_path)).open()


@pytest.mark.huggingface
def test_several_labels(tmp_path: Path) -> None:
    archives(tmp_path / "set")
    source = HfDatasets(str(tmp_path / "set"), label="json.all", multi_label=True).open()
    assert source.classes == NAMES and source.multi_label
    for name, row in zip(source.names["train"], source.labels["train"], strict=True):
        assert row.tolist() == [float(c in (int(name.split("/")[1]) % 3, 1)) for c in range(3)]
    assert source.notes == ("not used: the columns cls, json.name",)


@pytest.mark.huggingface
def test_a_replaced_archive_is_another_set(tmp_path: Path) -> None:
    archives(tmp_path / "set")
    before = HfDatasets(str(tmp_path / "set")).open()
    content = (tmp_path / "set/train-000.tar").read_bytes().replace(png(3), png(4)[: len(png(3))])
    (tmp_path / "set/train-000.tar").write_bytes(content)
    assert HfDatasets(str(tmp_path / "set")).open().fingerprint != before.fingerprint


@pytest.mark.huggingface
def test_errors_name_the_field(tmp_path: Path) -> None:
    archives(tmp_path / "set")
    with pytest.raises(InputError, match=r"data\.label is 'fine'; the columns are png, cls, json.name, json.all"):
        HfDatasets(str(tmp_path / "set"), label="fine").open()
    with pytest.raises(InputError, match=r"data\.image is 'fine'"):
        HfDatasets(str(tmp_path / "set"), image="fine").open()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/train.tar").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"broken'; the package datasets cannot read it: "):
        HfDatasets(str(tmp_path / "broken")).open()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"cannot read it: .*doesn't contain any data files"):
        HfDatasets(str(tmp_path / "empty")).open()


@pytest.mark.huggingface
@pytest.mark.parametrize("place", ["../secret.png", "{}/secret.png"])
def test_a_table_cannot_name_a_file_elsewhere(tmp_path: Path, place: str) -> None:
    place = place.format(tmp_path)
    (tmp_path / "secret.png").write_bytes(png(1))
    (tmp_path / "set").mkdir()
    cells = pa.array([{"bytes": None, "path": place}] * 6, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": cells, "label": [0, 1] * 3}), tmp_path / "set/train.parquet")
    with pytest.raises(InputError, match=r"secret\.png', which is no file in it"):
        HfDatasets(str(tmp_path / "set")).open()


@pytest.mark.huggingface
def test_new_and_plan_take_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    archives(tmp_path / "birds")
    monkeypatch.chdir(tmp_path)
    main(["new", "birds", "--data.label", "json.name", "--no-measure"])
    assert "HfDatasets(" in Path("birds.py").read_text() and 'label="json.name"' in Path("birds.py").read_text()
    main(["data", "birds.py"])
    assert "eel" in capsys.readouterr().out


@pytest.mark.parametrize("lay", [archives, metadata])
def test_layouts_that_need_the_package_are_found_without_it(tmp_path: Path, lay: Callable[[Path], None], monkeypatch) -> None:
    lay(tmp_path / "set")
    data = detect(tmp_path / "set")
    assert data == HfDatasets(str((tmp_path / "set").resolve()))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'sgdr_jax\[datasets\]'"):
        data.open()


def test_other_layouts_are_read_through_the_package_on_request_alone(tmp_path: Path) -> None:
    classes(tmp_path / "set")
    assert type(detect(tmp_path / "set")).__name__ == "ImageFolder"
    assert isinstance(detect(tmp_path / "set", "HfDatasets"), HfDatasets)
    (tmp_path / "set/set.tar").write_bytes(b"")
    assert type(detect(tmp_path / "set")).__name__ == "ImageFolder"  # an archive beside its contents
