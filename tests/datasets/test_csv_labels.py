"""Labels in a CSV file: columns, splits, messages that name the line."""

import csv
import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import CsvLabels

from ..helpers import seeded
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
    source = dogs(tmp_path, "id,tags,split\na,x y,train\nb,,dev\nc,z,Training\nd,y,testing\n").open()
    assert source.classes == ("x", "y", "z")
    assert source.multi_label
    assert source.labels["train"].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert source.labels["train"].dtype == np.float32
    assert (source.labels["valid"].tolist(), source.labels["test"].tolist()) == ([[0, 0, 0]], [[0, 1, 0]])


def test_csv_separator_and_subfolders(tmp_path):
    data = dogs(tmp_path, "id,tags\nx/a.b,great dane\ny/b,pug\nx/c,pug\ny/d,great dane\n", ("x/a.b.jpg", "y/b.jpg", "x/c.png", "y/d.gif"))
    assert replace(data, separator="").open().classes == ("great dane", "pug")
    with pytest.raises(InputError, match=r"labels.csv line 2: 'great dane' may be one label or 2"):
        data.open()
    assert replace(data, multi_label=False).open().classes == ("great dane", "pug")
    assert replace(data, multi_label=True).open().classes == ("dane", "great", "pug")


@pytest.mark.parametrize("lead", ["", "images/"])
@pytest.mark.parametrize(
    ("places", "train", "other"), [(("train", "test"), "train", "test"), (("x/Training", "y/Dev/z"), "Training", "Dev")]
)
def test_folders_called_as_splits_are_not_mixed_in_silence(tmp_path, lead, places, train, other):
    """Images in a folder test were training images without a word."""
    images = [f"{lead}{folder}/{name}.png" for folder in places for name in "abcd"]
    rows = [f"{image},{'xy'[i % 2]}" for i, image in enumerate(images)]
    data = dogs(tmp_path, "\n".join(["id,breed", *rows]), tuple(images))
    folders = re.escape(str(sorted((train, other))))
    with pytest.raises(InputError, match=rf"labels\.csv: folders of images called as splits is {folders}; no column divides the rows"):
        data.open()
    mixed = replace(data, split_column="").open()
    assert mixed.sizes == {"train": 4, "valid": 4} and mixed.notes == ()
    marked = [row + (",train" if i % 4 else ",test") for i, row in enumerate(rows)]
    assert dogs(tmp_path, "\n".join(["id,breed,split", *marked]), ()).open().sizes["test"] == 2
    notes = dogs(tmp_path, "\n".join(["id,breed", *rows[4:]]), ()).open().notes
    assert notes[0] == f"labels.csv: the folder {other!r} does not divide the images, since no column does"
    assert not any("divide" in note for note in dogs(tmp_path, "\n".join(["id,breed", *rows[:4]]), ()).open().notes)


@pytest.mark.parametrize("places", [("dev/session1/train",), ("dev/one/train", "dev/two/train")])
def test_folders_that_all_images_share_do_not_forbid_a_table(tmp_path, places):
    """Below a folder dev no table could be read whose images lie in train."""
    images = [f"{place}/{name}.png" for place in places for name in "abcd"]
    rows = [f"{image},{'xy'[i % 2]}" for i, image in enumerate(images)]
    source = dogs(tmp_path, "\n".join(["id,breed", *rows]), tuple(images)).open()
    assert sum(source.sizes.values()) == len(images)
    assert source.notes == ("labels.csv: the folder 'dev' does not divide the images, since no column does",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,breed\na,x\nnone1,x\nnone2,y\nnone3,y\nnone4,y\n", "4 of 5 images .*: none1, none2, none3, …"),
        ("id,breed\na,x\n../train/b,y\n", r"1 of 2 images .*: \.\./train/b;"),
        ("id,breed\na,x\n/etc/passwd,y\n", "1 of 2 images"),
        ("a,x\nb,y\n", "that names an image"),
        ("id,breed\na,x\nb,\n", "labels.csv line 3: 'b' has no label"),
        ("id,breed\na,x\nb\n", "labels.csv line 3 is .*write an image and its labels"),
        ("id,breed\na,x\na.jpg,y\n", r"labels.csv line 3: 'a.jpg' is listed more than once, first in line 2"),
        ("id,breed,split\na,x,train\nb,y,holdout\n", "line 3: split is 'holdout'"),
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


def test_names_may_begin_with_the_folder_itself(tmp_path):
    """Of `./0.jpg` the error said that .jpg is not read, only .jpg."""
    for i in range(4):
        picture(tmp_path / f"{i}.jpg")
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(f"./{i}.jpg,{'ab'[i % 2]}\n" for i in range(4)))
    data = CsvLabels(str(tmp_path), images=".", valid_fraction=0.5)
    assert data.open().sizes == {"train": 2, "valid": 2}
    (tmp_path / "labels.csv").write_text("image,label\nx/../0.jpg,a\n1.jpg,b\n")
    with pytest.raises(InputError, match="1 of 2 images in the CSV file are not in") as error:
        data.open()
    assert "is not read" not in str(error.value)


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


def table(source) -> dict[str, object]:
    """Class names of each image."""
    found = {}
    for split, names in source.names.items():
        for name, label in zip(names, source.labels[split], strict=True):
            found[name] = [source.classes[i] for i in np.flatnonzero(label)] if source.multi_label else source.classes[label]
    return found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,breed\na,x\nb,"y\nc,x\nd,y\n', 3),  # open to the end of the file
        ('id,breed\na,x\nb,"y\nc,x\nd,"y\n', 3),  # up to the next stray quote
        ('id,breed\na,x\nb,"y\nc,x"\nd,y\n', 3),  # closed by chance: a label of two lines
        ('id,breed\na,x\n"b,y\nc,x\nd,y\n', 3),
        ('id,breed,split\na,x,train\nb,y,"train\nc,x,valid"\n', 3),
        ('id,"breed\na,x\nb,y\n', 1),
        ('id,breed,note\na,x,"two\nlines"\nb,y,"one\nc,x,\nd,y,end"\n', 4),  # rows inside a column that is not used
        ('id,breed\na,x\nb,"y" z\nc,x\n', 3),
        ('id,breed\na,x\nb,y"\nc,x\n', 3),
        ('id,breed\na,x\nb, "y"\nc,x\n', 3),
    ],
)
def test_a_quote_that_is_not_closed_is_named_with_its_line(tmp_path, text, line):
    with pytest.raises(InputError, match=rf"labels.csv line {line}: .*quote") as error:
        dogs(tmp_path, text).open()
    assert "\n" not in str(error.value)


def test_quoted_cells_are_read(tmp_path):
    text = 'id,breed,note\n"a","great, dane","two\nlines"\nb,"5"" pug",\nc,"great, dane","say ""so"""\nd,"5"" pug"\n'
    assert table(replace(dogs(tmp_path, text), separator="").open()) == {
        "a.jpg": "great, dane",
        "b.png": '5" pug',
        "c.jpg": "great, dane",
        "d.jpg": '5" pug',
    }


@seeded
@given(st.text('ab",\n\r ', max_size=24), st.sampled_from(["\n", "\r\n"]))
def test_any_text_is_read_as_the_strict_csv_module_reads_it_or_refused(text, end):
    text = f"id,breed{end}a,x{end}{text}"
    with tempfile.TemporaryDirectory() as folder:
        data = replace(dogs(Path(folder), text), multi_label=False)
        try:
            strict = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(cell.strip() for cell in row)][1:]
        except csv.Error:
            with pytest.raises(InputError, match=r"labels.csv line \d+: "):
                data.open()
            return
        try:
            source = data.open()
        except InputError:
            return
        assert {name[0]: label for name, label in table(source).items()} == {row[0].strip(): row[1].strip() for row in strict}
        assert all(len(row) == 2 or not any(cell.strip() for cell in row[2:]) for row in strict)


def test_a_cell_without_a_column_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"labels.csv line 3: 3 cells, but the header has 2"):
        dogs(tmp_path, "id,breed\na,x\nb,y,z\nc,x\nd,y\n").open()
    assert dogs(tmp_path, "id,breed\na,x\nb,y,\nc,x\nd,y,,\n").open().classes == ("x", "y")


def test_columns_that_are_not_used_are_told(tmp_path):
    plain = dogs(tmp_path, "id,breed\na,x\nb,y\nc,x\nd,y\n").open()
    assert plain.notes == ()
    source = dogs(tmp_path, "id,breed,age,site\na,x,3,p\nb,y,4,q\nc,x,5,p\nd,y,6,q\n").open()
    assert table(source) == table(plain)
    assert source.notes == ("labels.csv: labels are read from the column 'breed'; not used: the columns age, site",)


@pytest.mark.parametrize("values", ["False True", "0 1", "false TRUE", "0.0 1.0"])
@pytest.mark.parametrize("column", ["split", "is_valid"])
def test_a_column_is_valid_marks_the_validation_images(tmp_path, values, column):
    no, yes = values.split()
    text = f"fname,labels,is_valid\na,x,{no}\nb,y,{no}\nc,x,{yes}\nd,y,{yes}\n"
    source = replace(dogs(tmp_path, text), split_column=column).open()
    assert source.names == {"train": ("a.jpg", "b.png"), "valid": ("c.jpg", "d.jpg")}
    assert source.notes == ()


def test_a_split_column_comes_before_is_valid(tmp_path):
    text = "fname,labels,is_valid,split\na,x,True,train\nb,y,False,train\nc,x,False,valid\nd,y,True,valid\n"
    source = dogs(tmp_path, text).open()
    assert source.names["valid"] == ("c.jpg", "d.jpg")
    assert any("not used: the column is_valid" in note for note in source.notes)
    none = replace(dogs(tmp_path, text), split_column="").open()
    assert any("not used: the columns is_valid, split" in note for note in none.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fname,labels,is_valid\na,x,False\nb,y,\nc,x,True\nd,y,True\n", "labels.csv line 3: is_valid is ''"),
        ("fname,is_valid,labels\na,False,x\nb,False,y\nc,True,x\nd,True,y\n", "the second column is 'is_valid'"),
    ],
)
def test_is_valid_errors(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        dogs(tmp_path, text).open()


@pytest.mark.parametrize("values", [("0", "1"), ("0.0", "1.0"), ("False", "True")])
def test_one_hot_columns_are_the_classes(tmp_path, values):
    no, yes = values
    text = f"id,cat,dog,is_valid\na,{yes},{no},0\nb,{no},{yes},0\nc,{yes},{no},1\nd,{no},{yes},1\n"
    source = dogs(tmp_path, text).open()
    assert source.names["valid"] == ("c.jpg", "d.jpg")
    assert table(source) == {"a.jpg": "cat", "b.png": "dog", "c.jpg": "cat", "d.jpg": "dog"}
    assert not source.multi_label and source.classes == ("cat", "dog")
    assert replace(dogs(tmp_path, text), multi_label=True).open().labels["train"].tolist() == [[1, 0], [0, 1]]


@seeded
@given(st.integers(2, 4), st.data())
def test_one_hot_columns_say_what_a_column_of_names_says(count, data):
    classes = data.draw(st.permutations(["p", "q", "r", "s"][:count]))
    chosen = [*classes, *data.draw(st.lists(st.sampled_from(classes), min_size=2, max_size=6))]
    images = [f"i{i}" for i in range(len(chosen))]
    hot = "".join(f"{i},{','.join(str(int(c == label)) for c in classes)}\n" for i, label in zip(images, chosen, strict=True))
    named = "".join(f"{i},{label}\n" for i, label in zip(images, chosen, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(f"{i}.jpg" for i in images)
        first = table(dogs(Path(folder), f"id,{','.join(classes)}\n{hot}", files).open())
        assert first == table(dogs(Path(folder), f"id,label\n{named}", files).open())


def test_columns_of_zeros_and_ones_that_are_not_one_hot_are_ambiguous(tmp_path):
    data = dogs(tmp_path, "id,malignant,smoker\na,0,1\nb,1,1\nc,0,0\nd,1,0\n")
    with pytest.raises(InputError, match=r"labels.csv line 3: 2 of the columns malignant, smoker are 1.*multi_label"):
        data.open()
    several = replace(data, multi_label=True).open()
    assert several.classes == ("malignant", "smoker") and table(several)["b.png"] == ["malignant", "smoker"]
    one = replace(data, multi_label=False).open()
    assert one.classes == ("0", "1") and table(one)["a.jpg"] == "0" and "not used: the column smoker" in one.notes[0]
    named = dogs(tmp_path, "id,label,smoker\na,0,1\nb,1,1\nc,0,0\nd,1,0\n").open()
    assert named.classes == ("0", "1") and "not used: the column smoker" in named.notes[0]


@pytest.mark.parametrize(
    "labels",
    [
        ("pug", "pug", "boxer", "great dane"),
        ("golden retriever", "labrador retriever", "pug", "pug"),
        ("dog", "hot dog", "hot dog", "dog"),
        ("black cat", "white cat", "black dog", "white dog"),
        ("great dane", "", "pug", "pug"),
    ],
)
def test_a_label_with_a_space_does_not_make_the_task_multi_label_in_silence(tmp_path, labels):
    rows = "".join(f"{i},{label}\n" for i, label in zip("abcdefgh", 2 * labels, strict=True))
    data = dogs(tmp_path, f"id,breed\n{rows}", tuple(f"{i}.jpg" for i in "abcdefgh"))
    with pytest.raises(InputError, match=r"labels.csv line \d: '.* .*' may be one label or 2.*data.multi_label") as error:
        data.open()
    assert "\n" not in str(error.value)
    assert replace(data, multi_label=True).open().multi_label
    if all(labels):
        assert set(table(replace(data, separator="").open()).values()) == set(labels)


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_cells_with_other_separators_are_one_label_or_several_and_never_in_silence(tmp_path, separator):
    """ "dog,cat" became a class of its own."""
    files = tuple(f"{name}.jpg" for name in "abcdefgh")
    cells = (f"dog{separator}cat", "dog", f"cat{separator} dog", "cat")
    data = dogs(tmp_path, "id,tags\n" + "".join(f'{name},"{cell}"\n' for name, cell in zip("abcdefgh", 2 * cells, strict=True)), files)
    with pytest.raises(InputError, match=rf"line 2: 'dog\{separator}cat' may be one label or 2; set data.separator to '\{separator}'"):
        data.open()
    source = replace(data, separator=separator).open()
    assert source.multi_label and source.classes == ("cat", "dog")
    assert len(replace(data, multi_label=False).open().classes) == 4
    names = "".join(f'{name},"Smith{separator}{"John" if name in "abcd" else "Jane"}"\n' for name in "abcdefgh")
    assert len(dogs(tmp_path, "id,tags\n" + names, files).open().classes) == 2


SEVERAL = {
    "a rare label": "dog,cat dog cat cat,fish fish dog,fish dog,whale",
    "many rare labels": "dog,cat dog cat dog,a dog,b cat,c cat,d e,f",
    "none alone": "dog,cat cat,fish dog,fish dog,whale eel",
}
NAMES = {
    "a part in common": "Smith,John Smith,Jane Smith,Jim eel",
    "some parts in common": "Smith,John Smith,Jane Doe,John Lee,Ann Roe,Bea",
    "a part alone": "maillot maillot,suit gown robe,gown",
}


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize("name", SEVERAL | NAMES)
def test_rare_labels_do_not_make_several_labels_one(tmp_path, name, separator):
    """A single label in a single cell made every combination a class."""
    cells = (SEVERAL | NAMES)[name].replace(",", separator).split()
    rows = "".join(f'{i},"{cell}"\n' for i, cell in enumerate(2 * cells))
    data = dogs(tmp_path, f"id,tags\n{rows}", tuple(f"{i}.jpg" for i in range(2 * len(cells))))
    if name in NAMES:
        assert data.open().classes == tuple(sorted(cells))
        return
    with pytest.raises(InputError, match=rf"line 2: 'dog\{separator}cat' may be one label or 2; set data.separator to '\{separator}'"):
        data.open()
    assert replace(data, separator=separator).open().multi_label
    for decided in (replace(data, multi_label=False), replace(data, separator="")):
        assert len(decided.open().classes) == len(cells)


def test_labels_that_mean_none_to_a_program_are_told(tmp_path):
    source = dogs(tmp_path, "id,tags\na,x\nb,NaN\nc,x\nd,NaN\n").open()
    assert source.classes == ("NaN", "x")
    assert source.notes == ("labels.csv: 2 of 4 rows have the label 'NaN', which is a class here; leave them out if it means none",)


def test_labels_that_recombine_are_several_and_one_line_says_so(tmp_path):
    source = dogs(tmp_path, "id,tags\na,x y\nb,x\nc,y z\nd,z x\n").open()
    assert source.multi_label and source.classes == ("x", "y", "z")
    assert source.notes == ("labels.csv: 3 of 4 rows have several labels, separated by spaces, so the task is multi-label",)
    assert dogs(tmp_path, "id,tags\na,x\nb,x\nc,y\nd,y\n").open().notes == ()
    other = replace(dogs(tmp_path, "id,tags\na,x|great dane\nb,x\nc,x\nd,x\n"), separator="|").open()
    assert other.multi_label and other.classes == ("great dane", "x") and other.notes == ()


def test_multi_label_false_takes_one_label_a_row(tmp_path):
    data = dogs(tmp_path, "id,tags\na,x\nb,y\nc,x\nd,y\n")
    assert replace(data, multi_label=True).open().multi_label
    assert not data.open().multi_label


def test_names_in_two_unicode_forms_are_one(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    text = f"id,tag\na,{composed}\nb,{decomposed}\nc,x\n{composed},x\n"
    data = replace(dogs(tmp_path, text, ("a.jpg", "b.jpg", "c.jpg", f"{decomposed}.jpg")), separator="")
    source = data.open()
    assert source.classes == (composed, "x")
    assert table(source)[f"{decomposed}.jpg"] == "x"
    assert any("Unicode" in note for note in source.notes)
    alone = dogs(tmp_path / "alone", f"id,tag\na,{decomposed}\nb,{decomposed}\nc,x\nd,x\n").open()
    assert alone.classes == (decomposed, "x")  # as it has always been called


def test_files_that_no_row_names_are_told(tmp_path):
    data = dogs(tmp_path, "id,breed\na,x\nb,y\nc,x\nd,y\n")
    picture(tmp_path / "train" / "e.jpg")
    picture(tmp_path / "train" / "deeper" / "f.jpg")
    picture(tmp_path / "test" / "g.jpg")
    (tmp_path / "train" / "h.tiff").write_bytes(b"")
    wanted = "not part of the set: 4 files (3 images elsewhere, 1 .tiff), such as 'test/g.jpg'"
    assert data.open().notes == (wanted,)
    with pytest.raises(InputError, match=r"h \(h\.tiff is there, but \.tiff is not read"):
        dogs(tmp_path, "id,breed\na,x\nb,y\nc,x\nh,y\n").open()


def test_the_split_column_may_begin_with_a_capital(tmp_path):
    source = dogs(tmp_path, "id,breed, Split\na,x,Train\nb,y,train\nc,x,valid\nd,y,VAL\n").open()
    assert source.names["valid"] == ("c.jpg", "d.jpg") and source.notes == ()


def test_classes_that_look_alike_are_told(tmp_path):
    text = "id,breed,split\na,pug,train\nb,Pug,train\nc,pu\u200bg,train\nd,boxer,train\ne,pug,valid\n"
    source = dogs(tmp_path, text, tuple(f"{i}.jpg" for i in "abcde")).open()
    assert source.notes == ("the classes 'Pug', 'pug', 'pu\\u200bg' look alike, or are the same number",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,cat,dog\na,1,0\nb,0,1\nc,1,0\nd,0,l\n", r"labels.csv line 5: dog is 'l'; other rows have zeros and ones there"),
        ("id,cat,dog,eel\na,1,0,0\nb,0,1,0\nc,0,,1\nd,0,1,0\n", r"labels.csv line 4: dog is ''; other rows"),
        ("id,cat,dog\na,0.2,0.8\nb,0.5,0.5\nc,1,0\nd,0,1.0\n", r"labels.csv line 2: the columns cat, dog hold shares of 1"),
        ("id;label\na;x\nb;y\n", "commas"),
    ],
)
def test_columns_that_are_nearly_one_hot_are_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        dogs(tmp_path, text).open()


def test_multi_label_false_reads_the_second_column_alone(tmp_path):
    text = "id,malignant,siblings\na,1,0\nb,0,1\nc,1,0\nd,0,2\n"
    with pytest.raises(InputError, match="line 5: siblings is '2'"):
        dogs(tmp_path, text).open()
    assert replace(dogs(tmp_path, text), multi_label=False).open().classes == ("0", "1")


COLUMN = st.sampled_from(
    [
        ("zeros", "01"),
        ("more", "01"),
        ("word", "xy"),
        ("label", "xy"),
        ("is_valid", "01"),
        ("split", ("train", "valid")),
        ("empty", ("", "")),
        ("", "01"),
    ]
)


@seeded
@given(st.lists(COLUMN, min_size=1, max_size=5, unique_by=lambda column: column[0]), st.randoms(use_true_random=False))
def test_every_column_is_used_or_told_or_the_set_is_refused(columns, random):
    images = [f"i{i}" for i in range(8)]
    cells = [[random.choice(values) for _, values in columns] for _ in images]
    with tempfile.TemporaryDirectory() as folder:
        rows = "".join(f"{image},{','.join(row)}\n" for image, row in zip(images, cells, strict=True))
        text = f"id,{','.join(name for name, _ in columns)}\n{rows}"
        try:
            source = dogs(Path(folder), text, tuple(f"{image}.jpg" for image in images)).open()
        except InputError as error:
            assert "\n" not in str(error)
            return
        told = " ".join(source.notes).partition("not used: ")[2]
        names = [name for name, _ in columns]
        used = set(names) & {*source.classes} or {names[0]}  # columns that are classes, or the one of labels
        if "valid" in source.names and all(len(source.names[split]) for split in source.names):
            mark = next((name for name in ("split", "is_valid") if name in names[1:]), None)
            marked = {"valid": "valid", "1": "valid"}
            if mark:
                where = [i for i, row in enumerate(cells) if marked.get(row[names.index(mark)]) == "valid"]
                assert not where or source.names["valid"] == tuple(f"i{i}.jpg" for i in where)
                used.add(mark)
        for position, name in enumerate(names):
            shown = name or f"number {position + 2}"
            assert name in used or shown in told, (shown, source.notes, source.classes)


def test_an_exact_name_wins_over_one_without_extension(tmp_path):
    data = dogs(tmp_path, "id,label\na.jpg,x\nb.jpg,y\nc.jpg,x\nd.jpg,y\n", ("a.jpg", "a.jpg.png", "b.jpg", "c.jpg", "d.jpg"))
    source = data.open()
    assert sorted(name for names in source.names.values() for name in names) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_two_columns_of_one_class_are_refused(tmp_path):
    """Of three columns for two classes only the first became labels, "0" and "1"."""
    with pytest.raises(InputError, match=r"labels.csv: the name of two columns is 'cat'; each is that of a class; rename one"):
        dogs(tmp_path, "id,cat,dog,cat\na,1,0,0\nb,0,1,0\nc,1,0,1\nd,0,1,0\n").open()
