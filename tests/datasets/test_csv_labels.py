"""Labels in a CSV file: columns, splits, messages that name the line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import CsvLabels

from .pictures import picture


def dogs(root: Path, text: str, images: tuple[str, ...] = ("a.jpg", "b.png", "c.jpg", "d.jpg")) -> CsvLabels:
    for name in images:
        picture(root / "train" / name)
    (root / "labels.csv").write_bytes(text.encode())
    return CsvLabels(str(root), valid_fraction=0.5)


def test_csv_single_label(tmp_path):
    source = dogs(tmp_path, "\ufeffid,breed\r\na,pug\r\nb.png,boxer\r\n\r\nc,pug\r\nd,boxer\r\n").open()
    assert source.classes == ("boxer", "pug")
    assert source.sizes == {"train": 2, "valid": 2}
    found = {
        name: source.classes[label] for split in source.names for name, label in zip(source.names[split], source.labels[split], strict=True)
    }
    assert found == {"a.jpg": "pug", "b.png": "boxer", "c.jpg": "pug", "d.jpg": "boxer"}
    assert source.items["train"][0] == str(tmp_path / "train" / source.names["train"][0])


def test_csv_multi_label_and_split_column(tmp_path):
    source = dogs(tmp_path, "id,tags,split\na,x y,train\nb,,val\nc,z,train\nd,y,test\n").open()
    assert source.classes == ("x", "y", "z")
    assert source.multi_label
    assert source.labels["train"].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert source.labels["train"].dtype == np.float32
    assert (source.labels["valid"].tolist(), source.labels["test"].tolist()) == ([[0, 0, 0]], [[0, 1, 0]])


def test_csv_separator_and_subfolders(tmp_path):
    data = dogs(tmp_path, "id,tags\nx/a.b,great dane\ny/b,pug\nx/c,pug\ny/d,great dane\n", ("x/a.b.jpg", "y/b.jpg", "x/c.png", "y/d.gif"))
    assert replace(data, separator="").open().classes == ("great dane", "pug")
    assert data.open().classes == ("dane", "great", "pug")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,breed\na,x\nnone1,x\nnone2,y\nnone3,y\nnone4,y\n", "4 of 5 images .*: none1, none2, none3, …"),
        ("id,breed\na,x\n../train/b,y\n", r"1 of 2 images .*: \.\./train/b;"),
        ("id,breed\na,x\n/etc/passwd,y\n", "1 of 2 images"),
        ("a,x\nb,y\n", "that names an image"),
        ("id,breed\na,x\nb,\n", "labels.csv line 3: 'b' has no label"),
        ("id,breed\na,x\nb\n", "labels.csv line 3 is .*write an image and its labels"),
        ("id,breed\na,x\na.jpg,y\n", "listed more than once"),
        ("id,breed,split\na,x,train\nb,y,dev\n", "line 3: split is 'dev'"),
        ("id,breed,split\na,x,valid\nb,y,test\n", "rows marked train is 0"),
        ("id,breed,split\na,x,train\nb,y,valid\n", r"without a training image is \['y'\]"),
        ("id,breed\na,x\nb,x\n", "at least two"),
        ("id,breed\n", "header line"),
        ("", "header line"),
    ],
)
def test_csv_errors(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as error:
        dogs(tmp_path, text).open()
    assert "\n" not in str(error.value)


def test_csv_file_errors(tmp_path):
    data = dogs(tmp_path, "id,breed\na,x\nb,y\n")
    with pytest.raises(InputError, match=r"data.split_column is 'fold'"):
        replace(data, split_column="fold").open()
    with pytest.raises(InputError, match=r"data.images is .*no such folder"):
        replace(data, images="pictures").open()
    picture(tmp_path / "train" / "a.png")
    with pytest.raises(InputError, match="line 2 is 'a'; several files"):
        data.open()
    (tmp_path / "labels.csv").write_bytes(b"id,breed\n\xff\xfe,x\n")
    with pytest.raises(InputError, match="UTF-8"):
        data.open()
    with pytest.raises(InputError, match=r"data.labels is .*no such file"):
        replace(data, labels="tags.csv").open()
