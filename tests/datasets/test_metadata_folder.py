"""A table of metadata beside the images, as the Hugging Face hub has it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import MetadataFolder

from .pictures import picture


def hub(root: Path, tables: dict[str, str], images: str = "a.jpg b.jpg c.jpg d.jpg") -> MetadataFolder:
    for name, text in tables.items():
        for image in images.split():
            picture(root / Path(name).parent / image)
        (root / name).write_text(text, encoding="utf-8")
    return MetadataFolder(str(root), valid_fraction=0.5)


def jsonl(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def shown(source) -> dict[str, object]:
    return {
        f"{split} {name}": [source.classes[i] for i in np.flatnonzero(label)] if source.multi_label else source.classes[label]
        for split, names in source.names.items()
        for name, label in zip(names, source.labels[split], strict=True)
    }


TWO = "file_name,caption,breed\na.jpg,sleeps,pug\nb.jpg,runs,boxer\nc.jpg,runs,pug\nd.jpg,sits,boxer\n"
CSV = "file_name,breed\na.jpg,great dane\nb.jpg,pug\nc.jpg,great dane\nd.jpg,pug\n"


def test_a_table_for_the_whole_set(tmp_path):
    source = hub(tmp_path, {"metadata.csv": CSV}).open()
    assert source.classes == ("great dane", "pug") and source.sizes == {"train": 2, "valid": 2} and source.notes == ()
    rows = [{"file_name": f"{i}.jpg", "label": "great dane" if i in "ac" else "pug", "width": 4} for i in "abcd"]
    lines = hub(tmp_path / "lines", {"metadata.jsonl": jsonl(*rows)}).open()
    assert shown(lines) == shown(source)
    assert lines.notes == ("metadata.jsonl: labels are read from the column 'label'; not used: the column width",)


def test_a_table_over_folders_of_splits_is_refused(tmp_path):
    rows = "train/a.jpg,pug\ntrain/b.jpg,boxer\ntest/c.jpg,pug\ntest/d.jpg,boxer\n"
    data = hub(tmp_path, {"metadata.csv": f"file_name,breed\n{rows}"}, "train/a.jpg train/b.jpg test/c.jpg test/d.jpg")
    with pytest.raises(InputError, match=r"metadata.csv: folders of images called as splits is \['test', 'train'\]; no column"):
        data.open()


def test_a_table_in_each_split(tmp_path):
    tables = {
        "train/metadata.csv": CSV,
        "validation/metadata.csv": "breed,file_name\npug,a.jpg\n",
        "test/metadata.csv": "file_name\na.jpg\n",
    }
    data = hub(tmp_path, tables)
    with pytest.raises(InputError, match="header line"):  # of one column
        data.open()
    (tmp_path / "test/metadata.csv").write_text("file_name,note\na.jpg,x\n")
    source = data.open()
    assert source.names["valid"] == ("validation/a.jpg",) and source.classes[source.labels["valid"][0]] == "pug"
    assert source.sizes == {"train": 4, "valid": 1}
    assert source.notes[0] == "not used: test/metadata.csv, which lacks the column breed of train/metadata.csv"
    (tmp_path / "test/metadata.csv").write_text("file_name,breed\na.jpg,pug\nb.jpg,great dane\n")
    assert data.open().sizes == {"train": 4, "valid": 1, "test": 2}


def test_lists_are_several_labels_and_texts_are_one(tmp_path):
    rows = [{"file_name": f"{i}.jpg", "tags": tags} for i, tags in zip("abcd", [["x", "y z"], ["x"], [], ["y z"]], strict=True)]
    source = hub(tmp_path, {"metadata.jsonl": jsonl(*rows)}).open()
    assert source.multi_label and source.classes == ("x", "y z")
    assert sorted(map(str, shown(source).values())) == ["['x', 'y z']", "['x']", "['y z']", "[]"]
    one = hub(
        tmp_path / "one", {"metadata.jsonl": jsonl(*({"file_name": f"{i}.jpg", "tags": [t]} for i, t in zip("abcd", "xyxy", strict=True)))}
    )
    with pytest.raises(InputError, match=r"metadata.jsonl: tags: each list has one label; set data.multi_label to False"):
        one.open()
    assert not replace(one, multi_label=False).open().multi_label and replace(one, multi_label=True).open().multi_label
    with pytest.raises(InputError, match=r"metadata.jsonl line 1: a list of 2 labels; set data.multi_label to True"):
        replace(MetadataFolder(str(tmp_path)), multi_label=False).open()


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize("layout", ["metadata.csv", "train/metadata.csv"])
def test_cells_that_look_like_several_labels_are_refused(tmp_path, layout, separator):
    """ "dog,cat" was a class of its own, in silence."""
    cells = [cell.replace(",", separator) for cell in ("dog,cat", "dog", "cat", "cat, dog")]
    text = "file_name,label\n" + "".join(f'{i}.jpg,"{cell}"\n' for i, cell in zip("abcdefgh", 2 * cells, strict=True))
    data = hub(tmp_path, {layout: text}, " ".join(f"{i}.jpg" for i in "abcdefgh"))
    with pytest.raises(InputError, match=rf"metadata.csv line 2: 'dog\{separator}cat' may be one label or 2; set data.separator to"):
        data.open()
    assert replace(data, separator=separator).open().classes == ("cat", "dog")
    assert len(replace(data, multi_label=False).open().classes) == 4


def test_columns_of_zeros_and_ones_are_classes(tmp_path):
    text = "file_name,cat,dog\na.jpg,1,0\nb.jpg,0,1\nc.jpg,1,0\nd.jpg,0,1\n"
    source = hub(tmp_path, {"metadata.csv": text}).open()
    assert source.classes == ("cat", "dog") and not source.multi_label
    several = hub(tmp_path / "several", {"metadata.csv": text.replace("b.jpg,0,1", "b.jpg,1,1")})
    with pytest.raises(InputError, match=r"metadata.csv line 3: 2 of the columns cat, dog are 1; set data.multi_label to True"):
        several.open()
    assert replace(several, multi_label=True).open().multi_label
    named = replace(several, label_columns=("cat", "dog")).open()
    assert named.multi_label and named.notes == (
        "metadata.csv: 1 of 4 rows have several of these columns or none, so the task is multi-label",
    )


@pytest.mark.parametrize(
    ("tables", "fields", "words"),
    [
        ({"metadata.csv": TWO}, {}, "the labels may be in any of the columns caption, breed; name one in data.label_columns"),
        ({"metadata.csv": CSV}, {"label_columns": ("bred",)}, r"data.label_columns is 'bred'; did you mean breed\?.* file_name, breed"),
        ({"metadata.csv": CSV}, {"label_columns": ("file_name",)}, "file_name names the images"),
        ({"metadata.csv": CSV}, {"label_columns": ("breed", "breed")}, "name each column once"),
        ({"metadata.csv": CSV.replace("file_name", "path")}, {}, "data.image_column is 'file_name'"),
        ({"metadata.csv": CSV.replace("b.jpg", "e.jpg")}, {}, "1 of 4 images .*: e.jpg"),
        ({"metadata.csv": CSV, "metadata.jsonl": ""}, {}, "it has both metadata.csv and metadata.jsonl, keep one of them"),
        ({"metadata.csv": CSV, "train/metadata.csv": CSV}, {}, "it has both metadata.csv and train/metadata.csv"),
        ({"val/metadata.csv": CSV}, {}, "needs metadata.csv or metadata.jsonl, in the folder or in its folder train"),
        ({"train/metadata.csv": CSV, "val/metadata.csv": CSV.replace("breed", "kind")}, {}, r"other columns than train/.* \(breed, kind\)"),
        ({"metadata.jsonl": '{"file_name": "a.jpg", "label": 1}\n{"file_name": \n'}, {}, "metadata.jsonl line 2: not JSON"),
        ({"metadata.jsonl": '{"file_name": "a.jpg", "label": 1}\n[1]\n'}, {}, r"metadata.jsonl line 2 is '\[1\]'; write an object"),
        ({"metadata.jsonl": '{"file_name": "a.jpg", "label": 1, "label": 2}\n'}, {}, "line 1: .*the name 'label' occurs twice"),
        ({"metadata.jsonl": "\n"}, {}, "needs an object for each image"),
        ({"metadata.csv": CSV.replace("b.jpg,pug", "b.jpg,")}, {}, "metadata.csv line 3: 'b.jpg' has no label"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used(tmp_path, tables, fields, words):
    with pytest.raises(InputError, match=words) as error:
        replace(hub(tmp_path, tables), **fields).open()
    assert "\n" not in str(error.value)
