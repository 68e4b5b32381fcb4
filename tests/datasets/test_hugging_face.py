"""Parquet files and arrow files as the `datasets` package writes them, made here with pyarrow."""

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sgdr_jax.core.errors import InputError
from sgdr_jax.data.load import load, load_some
from sgdr_jax.datasets import HuggingFace
from sgdr_jax.datasets.detect import detect
from sgdr_jax.models import ResNet18
from sgdr_jax.recipes.measured import measure

CAT = {"label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}
SEVERAL = {"label": {"feature": CAT["label"], "_type": "Sequence"}}


def table(levels, labels, features=None, bare=False) -> pa.Table:
    cells = []
    for level in levels:
        file = io.BytesIO()
        Image.new("L", (9, 8), level).save(file, "PNG")
        cells.append(file.getvalue() if bare else {"bytes": file.getvalue(), "path": f"{level}.png"})
    made = pa.table({"image": cells, "label": labels})
    info = {"info": {"features": {"image": {"_type": "Image"}} | (features or {})}}
    return made.replace_schema_metadata({"huggingface": json.dumps(info)}) if features else made


def hub(root: Path, features=CAT, **options) -> HuggingFace:
    (root / "data").mkdir(parents=True, exist_ok=True)
    for part in range(2):
        levels = range(12 * part, 12 * part + 12)
        made = table(levels, [[i % 3, 1] if features is SEVERAL else i % 3 for i in levels], features, **options)
        pq.write_table(made, root / f"data/train-0000{part}-of-00002.parquet", row_group_size=5)
    test = table(range(100, 106), [[0]] * 6 if features is SEVERAL else [0] * 6, features, **options)
    pq.write_table(test, root / "data/test-00000-of-00001.parquet")
    return HuggingFace(str(root))


def on_disk(root: Path) -> HuggingFace:
    (root / "dataset_dict.json").parent.mkdir(parents=True)
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split, levels in (("train", range(24)), ("test", range(100, 106))):
        (root / split).mkdir()
        made = table(levels, [i % 3 if split == "train" else 0 for i in levels], CAT)
        (root / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        with pa.OSFile(str(root / split / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(file, made.schema) as writer:
            writer.write_table(made, max_chunksize=7)
    return HuggingFace(str(root))


@pytest.mark.parametrize("kind", ["hub", "bare", "on_disk"])
def test_images_labels_and_splits(tmp_path, kind):
    data = on_disk(tmp_path / "set") if kind == "on_disk" else hub(tmp_path / "set", bare=kind == "bare")
    source = data.open()
    assert source.classes == ("cat", "dog", "eel")
    assert source.sizes == {"train": 18, "valid": 6, "test": 6}
    loaded = load(source, canvas=8)
    for split in ("train", "valid"):
        levels = loaded.images[split][:][:, 0, 0, 0]
        assert (levels % 3).tolist() == source.labels[split].tolist()
        assert [int(name.split("/")[1]) for name in source.names[split]] == levels.tolist()
    assert loaded.images["test"][:][:, 0, 0, 0].tolist() == list(range(100, 106))
    assert sorted(source.ids["train"] + source.ids["valid"])[0].endswith("000000000")
    assert data.open().fingerprint == source.fingerprint


@pytest.mark.parametrize(
    ("files", "split", "folders"),
    [
        ("full/train-0 full/validation-0 160px/train-0 160px/validation-0", "train", ["160px", "full"]),
        ("full/train/0 full/test/0 data/small/train/0 data/small/test/0", "train", ["data/small", "full"]),
        ("train-0 a/test-0 b/test-0", "test", ["a", "b"]),
        ("train-0 small/train-0", "train", [".", "small"]),
        ("small-train/data/train-0 full-train/data/train-0", "train", ["full-train/data", "small-train/data"]),
    ],
)
def test_configurations_beside_one_another_are_refused(tmp_path, files, split, folders):
    """Their images were pooled: one set divided in two ways was validated on what it was trained on."""
    parquet(tmp_path, files)
    words = re.escape(f"data.root: the folders with files of the split {split} is {folders}; if they are configurations, set data.root to")
    with pytest.raises(InputError, match=f"{words}.*HfDatasets.*; if they are parts of one, move the files into one folder") as error:
        detect(tmp_path).open()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "files",
    [
        "data/train-0 data/train-1 data/test-0",
        "train/0 train/1 test/0",
        "train/train-0 train-1 test/x",
        "a/train b/test",
        "data/train/a/train-0 data/train/b/train-1 data/test-0",
        "Train/a/b/train-0 train-1 Train/train-2 test",
    ],
)
def test_files_of_one_configuration_are_joined(tmp_path, files):
    parquet(tmp_path, files)
    sizes = HuggingFace(str(tmp_path)).open().sizes
    assert sizes["train"] + sizes["valid"] == 6 * (len(files.split()) - 1) and sizes["test"] == 6


def parquet(root: Path, files: str) -> None:
    for name in files.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(range(6), [i % 3 for i in range(6)], CAT), root / f"{name}.parquet")


def test_saved_splits_of_one_meaning_are_refused(tmp_path):
    data = on_disk(tmp_path / "set")
    for name in ("validation", "dev"):
        shutil.copytree(tmp_path / "set/test", tmp_path / "set" / name)
    with pytest.raises(InputError, match=r"files of the split valid is \['dev', 'validation'\]; keep one of them"):
        data.open()


def test_several_labels(tmp_path):
    source = hub(tmp_path, SEVERAL).open()
    for name, row in zip(source.names["train"], source.labels["train"], strict=True):
        i = int(name.split("/")[1])
        assert row.tolist() == [float(c in (i % 3, 1)) for c in range(3)]


def test_classes_without_names_are_sorted_and_text_labels_work(tmp_path):
    pq.write_table(table(range(12), [[7, 10, 9][i % 3] for i in range(12)]), tmp_path / "train.parquet")
    source = HuggingFace(str(tmp_path)).open()
    assert source.classes == ("7", "9", "10")
    levels = [int(name.split("/")[1]) for name in source.names["train"]]
    assert source.labels["train"].tolist() == [[0, 2, 1][level % 3] for level in levels]
    pq.write_table(table(range(12), ["ba"[i % 2] for i in range(12)]), tmp_path / "train.parquet")
    assert HuggingFace(str(tmp_path)).open().classes == ("a", "b")


def test_unlabelled_test_images_are_left_out_and_unlabelled_training_images_refused(tmp_path):
    data = hub(tmp_path)
    pq.write_table(table(range(3), [-1] * 3, CAT), tmp_path / "data/test-00000-of-00001.parquet")
    assert "test" not in data.open().sizes
    pq.write_table(table(range(3), [0, None, 1], CAT), tmp_path / "data/train-00000-of-00002.parquet")
    with pytest.raises(InputError, match=r"data\.label is 'label'; some training images have no label"):
        data.open()


def test_errors_name_the_field(tmp_path):
    with pytest.raises(InputError, match="needs parquet or arrow files of a split train, found none"):
        HuggingFace(str(tmp_path)).open()
    data = hub(tmp_path)
    for field in ("image", "label"):
        with pytest.raises(InputError, match=rf"data.{field} is 'fine'; train-00000-of-00002.parquet has the columns image, label"):
            HuggingFace(str(tmp_path), **{field: "fine"}).open()
    pq.write_table(table(range(3), [0, 5, 1], CAT), tmp_path / "data/train-00000-of-00002.parquet")
    with pytest.raises(InputError, match="a label of train is 5; the classes are"):
        data.open()
    (tmp_path / "data/train-00000-of-00002.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(InputError, match=r"train-00000-of-00002.parquet' cannot be read"):
        data.open()


@pytest.mark.parametrize("bare", [False, True])
def test_a_table_may_name_files_of_its_folder(tmp_path, bare):
    for i in range(6):
        Image.new("L", (9, 8), 40 * i).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png" if bare else {"bytes": None, "path": f"{i}.png"} for i in range(6)]
    pq.write_table(pa.table({"image": rows, "label": [0, 1] * 3}), tmp_path / "train.parquet")
    data = load(HuggingFace(str(tmp_path)).open(), canvas=8)
    assert sorted(int(x[0, 0, 0]) for split in data.images.values() for x in split[:]) == [40 * i for i in range(6)]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_table_cannot_name_a_file_elsewhere(tmp_path, bare, absolute):
    (tmp_path / "secret.png").write_bytes(b"")
    name = str(tmp_path / "secret.png") if absolute else "../secret.png"
    rows = [name if bare else {"bytes": None, "path": name}] * 6
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": rows, "label": [0, 1] * 3}), tmp_path / "set/train.parquet")
    with pytest.raises(InputError, match="names a file outside its folder"):
        load(HuggingFace(str(tmp_path / "set")).open(), canvas=8)
    # What looks at the images before a run leaves the telling to it.
    source = HuggingFace(str(tmp_path / "set")).open()
    assert measure(source, ResNet18(), familiar=False).unread == tuple(f"train/{i}" for i in range(4))
    with pytest.raises(InputError, match="no readable image is left"):
        load_some(source, [0, 1], 16)


def vectors(root: Path, rows: list[list[float]], features=None, **fields) -> HuggingFace:
    """A set whose image i is i grey levels bright and labelled rows[i]."""
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(range(len(rows)), rows, features), root / "train.parquet")
    return HuggingFace(str(root), **fields)


def rows_of(source) -> dict[int, object]:
    return {
        int(name.split("/")[1]): label.tolist()
        for split in source.names
        for name, label in zip(source.names[split], source.labels[split], strict=True)
    }


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("named", [False, True])
def test_rows_of_zeros_and_ones_are_vectors_and_not_lists_of_class_numbers(tmp_path, kind, named):
    hot = [[kind(i % 3 == c) for c in range(3)] for i in range(12)]
    data = vectors(tmp_path, hot, {"label": {"feature": CAT["label"], "_type": "Sequence"}} if named else None)
    with pytest.raises(InputError, match=r"data\.label is 'label'; every image has exactly one class.*multi_label"):
        data.open()
    single = replace(data, multi_label=False).open()
    assert single.classes == (("cat", "dog", "eel") if named else ("0", "1", "2"))
    assert rows_of(single) == {i: i % 3 for i in range(12)}
    assert rows_of(replace(data, multi_label=True).open()) == {i: [float(x) for x in row] for i, row in enumerate(hot)}
    some = [*hot[:-1], [kind(1), kind(1), kind(0)]]
    assert rows_of(vectors(tmp_path, some).open()) == {i: [float(x) for x in row] for i, row in enumerate(some)}
    with pytest.raises(InputError, match=r"data\.multi_label is False"):
        vectors(tmp_path, some, multi_label=False).open()


def test_lists_of_one_class_each_are_ambiguous(tmp_path):
    lists = [[i % 3] for i in range(12)]
    with pytest.raises(InputError, match="exactly one class"):
        vectors(tmp_path, lists, SEVERAL).open()
    assert rows_of(vectors(tmp_path, lists, SEVERAL, multi_label=False).open()) == {i: i % 3 for i in range(12)}
    assert vectors(tmp_path, [i % 3 for i in range(12)], CAT, multi_label=True).open().multi_label


def test_columns_files_and_splits_that_are_not_used_are_told(tmp_path):
    data = hub(tmp_path)
    assert data.open().notes == ()
    made = table(range(6), [0, 1, 2, 0, 1, 2], CAT)
    pq.write_table(made, tmp_path / "data/unsupervised-00000-of-00001.parquet")
    pq.write_table(table(range(3), [-1] * 3, CAT), tmp_path / "data/test-00000-of-00001.parquet")
    wide = made.append_column("is_valid", [[False] * 6]).append_column("breed", [["x"] * 6])
    pq.write_table(wide.replace_schema_metadata(made.schema.metadata), tmp_path / "data/train-00001-of-00002.parquet")
    assert data.open().notes == (
        "not used: the columns breed, is_valid",
        "not used: data/unsupervised-00000-of-00001.parquet, whose name tells no split",
        "not used: the split test, since some of its images have no label",
    )


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (("train", "Test"), ("train", "test")),
        (("birds_train", "birds_test"), ("train", "test")),
        (("birds-train-00000-of-00001", "birds-TEST-00000-of-00001"), ("train", "test")),
        (("train", "test_0"), ("train", "test")),
        (("training", "testing"), ("train", "test")),
        (("train", "holdout"), ("train", None)),
        (("train", "train_vs_test"), ("train", None)),
        (("birds", "test"), ("train", "test")),
        (("part0", "part1"), ("train", "train")),
    ],
)
def test_a_word_of_a_file_tells_its_split(tmp_path, files, splits):
    """Whatever was not called exactly `test` became training images, without a word."""
    for i, name in enumerate(files):
        pq.write_table(table(range(12 * i, 12 * i + 12), [0, 1, 2] * 4, CAT), tmp_path / f"{name}.parquet")
    source = HuggingFace(str(tmp_path), valid_fraction=0.25).open()
    assert source.sizes.get("test", 0) == 12 * splits.count("test")
    assert source.sizes["train"] + source.sizes["valid"] == 12 * splits.count("train")
    assert source.notes == tuple(f"not used: {n}.parquet, whose name tells no split" for n, s in zip(files, splits, strict=True) if not s)


def test_all_splits_have_the_classes_of_train(tmp_path):
    """Those of the last split were taken for all."""

    def written(root, **names):
        root.mkdir()
        for split, own in names.items():
            features = own and {"label": {"names": own, "_type": "ClassLabel"}}
            pq.write_table(table(range(12), [0, 1] * 6, features), root / f"{split}.parquet")
        return HuggingFace(str(root))

    assert written(tmp_path / "bare", train=["cat", "dog"], test=None).open().classes == ("cat", "dog")
    assert written(tmp_path / "late", train=None, test=["cat", "dog"]).open().classes == ("cat", "dog")
    with pytest.raises(InputError, match=r"names of the classes of test is \['dog', 'cat'\]; those before it are \['cat', 'dog'\]"):
        written(tmp_path / "turned", train=["cat", "dog"], test=["dog", "cat"]).open()


def test_names_in_two_unicode_forms_are_one(tmp_path):
    data = vectors(tmp_path, ["caf\u00e9", "x", "cafe\u0301"] * 4)
    source = data.open()
    assert source.classes == ("caf\u00e9", "x") and rows_of(source) == {i: [0, 1, 0][i % 3] for i in range(12)}
    assert "Unicode" in source.notes[0]


def test_hidden_copies_are_not_read(tmp_path):
    data = hub(tmp_path)
    before = data.open()
    for place in ("data/.ipynb_checkpoints/train-00000-of-00002.parquet", ".cache/train/0.parquet", "__MACOSX/train-0.parquet"):
        (tmp_path / place).parent.mkdir(parents=True)
        pq.write_table(table(range(12), [i % 3 for i in range(12)], CAT), tmp_path / place)
    (tmp_path / "data/._train-00000-of-00002.parquet").write_bytes(b"of macOS")
    assert data.open().fingerprint == before.fingerprint


@pytest.mark.parametrize("kind", ["parquet", "text", "category", "arrow"])
def test_changed_files_that_the_cells_name_are_decoded_anew(tmp_path, kind):
    root = tmp_path / "set"
    (root / "img").mkdir(parents=True)

    def draw(level):
        for i in range(8):
            Image.new("RGB", (9, 8), (level + i,) * 3).save(root / "img" / f"{i}.png")

    names = [f"img/{i}.png" for i in range(8)]
    cells = names if kind in ("text", "category") else [{"bytes": None, "path": name} for name in names]
    made = pa.table({"image": cells, "label": [0, 1] * 4})
    if kind == "category":
        made = made.set_column(0, "image", made["image"].dictionary_encode())
    if kind == "arrow":
        (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        with pa.OSFile(str(root / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, made.schema) as writer:
            writer.write_table(made)
    else:
        pq.write_table(made, root / "train.parquet")

    def levels():
        loaded = load(HuggingFace(str(root)).open(), canvas=8)
        return sorted(int(image[0, 0, 0]) for split in ("train", "valid") for image in loaded.images[split][:])

    draw(10)
    assert levels() == levels() == list(range(10, 18))
    draw(200)
    assert levels() == list(range(200, 208))
    (root / "img" / "3.png").unlink()
    with pytest.raises(InputError, match=r"1 of 8 images cannot be read"):
        levels()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([b"a", b"b"] * 4, ("a", "b")),
        ([0.0, 1.0] * 4, ("0.0", "1.0")),
    ],
)
def test_labels_of_bytes_and_numbers_are_named_as_they_are_written(tmp_path, labels, classes):
    pq.write_table(table(range(8), labels), tmp_path / "train.parquet")
    assert HuggingFace(str(tmp_path)).open().classes == classes


@pytest.mark.parametrize("labels", [[0.0, 1.0, float("nan"), 1.0], ["a", "b", "", "b"], ["a", "b", None, "a"]])
def test_labels_that_are_missing_are_no_class(tmp_path, labels):
    """NaN and empty texts had become classes."""
    pq.write_table(table(range(8), labels * 2), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"data.label is 'label'; some training images have no label"):
        HuggingFace(str(tmp_path)).open()
    pq.write_table(table(range(4), [[0, None], [1], [0], [1]]), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"the list \[0, None\] has an entry that is missing"):
        HuggingFace(str(tmp_path)).open()


@pytest.mark.parametrize("kind", ["hub", "on_disk"])
def test_names_that_are_left_over_beside_the_images_are_no_files_of_the_set(tmp_path, kind):
    """Each of a million such names was looked for on the disk at every start."""
    data = on_disk(tmp_path / "set") if kind == "on_disk" else hub(tmp_path / "set")
    for level in range(24):
        Image.new("L", (9, 8), 7).save(tmp_path / "set" / f"{level}.png")
    found = data.open().items["train"].files
    assert found and all(name.endswith((".parquet", ".arrow")) for name in found)


def test_files_outside_the_folder_are_none_of_the_set(tmp_path):
    Image.new("L", (9, 8), 7).save(tmp_path / "x.png")
    (tmp_path / "set").mkdir()
    names = [str(tmp_path / "x.png"), "../x.png"] * 2
    pq.write_table(pa.table({"image": names, "label": [0, 1] * 2}), tmp_path / "set" / "train.parquet")
    assert HuggingFace(str(tmp_path / "set"), valid_fraction=0.5).open().items["train"].files == [str(tmp_path / "set/train.parquet")]
