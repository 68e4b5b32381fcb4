"""What lies in a folder: each layout is read by its kind, and several ways to read it are an error that names the remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.types import Dataset
from sgdr_jax.datasets import Arrays, CsvLabels, FileNames, HuggingFace, ImageFolder, MetadataFolder, Tfds
from sgdr_jax.datasets.detect import detect

from .pictures import picture, tree

Lay = Callable[[Path], object]


def table(root: Path, name: str, header: str, rows: str, images: str) -> None:
    for image in images.split():
        picture(root / image)
    (root / name).write_text(f"{header}\n" + "\n".join(rows.split()) + "\n")


def classes(root: Path) -> None:
    tree(root, {"cat": 3, "dog": 3})


def divided(root: Path) -> None:
    tree(root, {"train/cat": 2, "train/dog": 2, "valid/cat": 1, "valid/dog": 1})


def long_names(root: Path) -> None:
    tree(root, {"training/cat": 2, "training/dog": 2, "testing/cat": 1, "testing/dog": 1})


def dotted(root: Path) -> None:
    table(root, "labels.csv", "id,breed", "./a.jpg,x ./b.jpg,y ./c.jpg,x ./d.jpg,y", "a.jpg b.jpg c.jpg d.jpg")


def kaggle(root: Path) -> None:
    table(root, "labels.csv", "id,breed", "a,x b,y c,x d,y", "train/a.jpg train/b.jpg train/c.jpg train/d.jpg")


def beside(root: Path) -> None:
    table(root, "birds.csv", "number,split,species,image", "1,train,x,a.jpg 2,train,y,b.jpg 3,valid,x,c.jpg", "a.jpg b.jpg c.jpg")


def lines(root: Path) -> None:
    table(root, "set.jsonl", "", '{"tags":["x"],"path":"img/a.jpg"} {"tags":["x","y"],"path":"img/b.jpg"}', "img/a.jpg img/b.jpg")


def one_hot(root: Path) -> None:
    table(root, "y.csv", "fname,p,q,is_valid", "i/a,1,0,False i/b,0,1,False i/c,1,0,True", "images/i/a.png images/i/b.png images/i/c.png")


def hub(root: Path) -> None:
    table(
        root, "train/metadata.csv", "file_name,label", "a.jpg,x b.jpg,y c.jpg,x d.jpg,y", "train/a.jpg train/b.jpg train/c.jpg train/d.jpg"
    )


def parquet(root: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (root / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": [b"x", b"y", b"z"], "label": ["p", "q", "p"]}), root / "data/train-0.parquet")


def arrays(root: Path) -> None:
    root.mkdir(exist_ok=True)
    np.savez(root / "digits.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=np.arange(4) % 2)


def loose(root: Path) -> None:
    for name in ("a_1.jpg", "a_2.jpg", "b_1.jpg", "b_2.jpg"):
        picture(root / "images" / name)


@pytest.mark.parametrize(
    ("lay", "wanted", "found"),
    [
        (classes, ImageFolder("."), ("cat", "dog")),
        (divided, ImageFolder("."), ("cat", "dog")),
        (long_names, ImageFolder("."), ("cat", "dog")),
        (dotted, CsvLabels(".", images="."), ("x", "y")),
        (kaggle, CsvLabels("."), ("x", "y")),
        (beside, CsvLabels(".", "birds.csv", ".", image_column="image"), "number, species"),
        (lines, CsvLabels(".", "set.jsonl", ".", image_column="path"), ("x", "y")),
        (one_hot, CsvLabels(".", "y.csv", "images", image_column="fname"), ("p", "q")),
        (hub, MetadataFolder("."), ("x", "y")),
        (parquet, HuggingFace("."), ("p", "q")),
        (arrays, Arrays("digits.npz"), ("0", "1")),
        (loose, FileNames("."), "whose first group is the class of 'images/a_1.jpg'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_layout_is_read_by_its_kind(tmp_path: Path, lay: Lay, wanted: Dataset, found: object, monkeypatch) -> None:
    root = tmp_path / "set"
    lay(root)
    data = detect(root)
    field = "path" if isinstance(wanted, Arrays) else "root"
    place = getattr(data, field)
    assert Path(place) == (root / getattr(wanted, field)).resolve()
    assert data == type(data)(**{**vars(wanted), field: place})
    monkeypatch.chdir(root)
    assert detect(".") == data == detect("../set", type(data).__name__)
    if isinstance(found, tuple):
        assert data.open().classes == found
    else:
        with pytest.raises(InputError, match=str(found)):
            data.open()


@pytest.mark.parametrize(
    ("lays", "words"),
    [
        ((classes, arrays), r"by digits\.npz, as a folder of classes; choose one by --kind Arrays or --kind ImageFolder"),
        ((classes, parquet), r"by parquet files .*, as a folder of classes; choose one by --kind HuggingFace or --kind ImageFolder"),
        ((kaggle, beside), r"by birds\.csv, .*, by labels\.csv; choose one by .*labels\.csv or data=CsvLabels\(.*birds\.csv"),
    ],
    ids=lambda value: "",
)
def test_several_ways_to_read_a_folder_are_refused(tmp_path: Path, lays: tuple[Lay, ...], words: str, capsys) -> None:
    for lay in lays:
        lay(tmp_path)
    with pytest.raises(InputError, match=words):
        detect(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["new", str(tmp_path)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and "can be read in several ways" in error
    assert isinstance(detect(tmp_path, "ImageFolder"), ImageFolder) if classes in lays else True
    assert detect(tmp_path / "labels.csv") == CsvLabels(str(tmp_path.resolve())) if kaggle in lays else True


def test_a_table_that_names_the_images_of_class_folders_is_another_way(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "labels.csv").write_text("name,label\n" + "".join(f"{c}/0{i}.png,{c}\n" for c in ("cat", "dog") for i in range(3)))
    with pytest.raises(InputError, match=r"--kind CsvLabels or --kind ImageFolder"):
        detect(tmp_path)
    assert detect(tmp_path, "CsvLabels").open().classes == detect(tmp_path, "ImageFolder").open().classes == ("cat", "dog")


def test_a_table_that_names_no_image_is_no_set_but_told(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "notes.csv").write_text('who,"what\n')
    data = detect(tmp_path)
    assert data == ImageFolder(str(tmp_path.resolve())) and "1 .csv" in data.open().notes[0]
    shutil.rmtree(tmp_path / "cat")
    shutil.rmtree(tmp_path / "dog")
    picture(tmp_path / "a_1.png")
    with pytest.raises(InputError, match=r"notes\.csv line 1: a quote is not closed"):  # as likely the labels of the loose image
        detect(tmp_path)


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("cell", ["p{0}\\{1}.jpg", "p{0}/{1}.JPG", "/home/ada/set/p{0}/{1}.jpg", "set/p{0}/{1}.jpg"])
def test_a_table_that_names_images_in_another_spelling_is_refused(tmp_path: Path, cell: str, folders: bool) -> None:
    """Folders of batches were taken for classes, as the labels of a table from Windows named no image."""
    places = [(i % 2 if folders else 0, i) for i in range(6)]
    for folder, i in places:
        picture(tmp_path / "train" / f"p{folder}" / f"{i}.jpg")
    rows = [f"{cell.format(*place)},{'xy'[place[1] % 3 == 0]}\n" for place in places]
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(rows))
    with pytest.raises(InputError) as error:
        detect(tmp_path)
    words = f"labels.csv line 2: the image {cell.format(0, 0)!r} in column 'image' is not there by that name, but 'train/p0/0.jpg' is;"
    assert words in str(error.value)
    assert detect(tmp_path, "FileNames" if not folders else "ImageFolder") is not None


@pytest.mark.parametrize("cell", ["https://flickr.com/1/cat{}.jpg", "photos/cat/cat{}.jpg", "/data/photos/cat/cat{}.jpg"])
def test_tables_about_the_images_of_class_folders_are_no_obstacle(tmp_path: Path, cell: str) -> None:
    tree(tmp_path, {"dog": 2})
    for i in range(4):
        picture(tmp_path / "cat" / f"cat{i}.jpg")
    (tmp_path / "notes.csv").write_text("title,place\n" + "".join(f"t{i},{cell.format(i)}\n" for i in range(4)))
    assert detect(tmp_path) == ImageFolder(str(tmp_path))


def test_several_files_of_arrays_are_named_as_choices(tmp_path: Path) -> None:
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=[0, 1])
    with pytest.raises(InputError, match=r"choose one by \S*one.npz or \S*two.npz"):
        detect(tmp_path)
    assert detect(tmp_path / "one.npz") == Arrays(str(tmp_path / "one.npz"))


def test_images_in_two_places_are_refused(tmp_path: Path) -> None:
    kaggle(tmp_path)
    shutil.copytree(tmp_path / "train", tmp_path / "small")
    wanted = r"images named in 'id' in 'small', by labels\.csv; choose one by data=CsvLabels\(.*images=\"small\"\) in an experiment file"
    with pytest.raises(InputError, match=wanted):
        detect(tmp_path / "labels.csv")


def test_each_of_several_columns_that_name_images_is_offered(tmp_path: Path) -> None:
    """As pandas writes a table with its index; only the reading by the index was offered."""
    table(tmp_path, "labels.csv", ",id,label", "0,0.jpg,x 1,1.jpg,y 2,2.jpg,x", "0.jpg 1.jpg 2.jpg")
    with pytest.raises(InputError, match=r'choose one by .*image_column="id"\) in an experiment file') as error:
        detect(tmp_path)
    assert str(error.value).count("in an experiment file") == 2


def test_a_column_of_few_values_that_happen_to_be_names_is_not_that_of_the_images(tmp_path: Path) -> None:
    rows = " ".join(f"{i},{i % 2},{i % 2}" for i in range(6))
    table(tmp_path, "labels.csv", "number,haze,water", rows, " ".join(f"{i}.png" for i in range(6)))
    assert detect(tmp_path) == CsvLabels(str(tmp_path.resolve()), "labels.csv", ".", image_column="number")


def test_images_that_are_missing_are_named(tmp_path: Path) -> None:
    kaggle(tmp_path)
    (tmp_path / "train" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 4 images .*: b;"):
        detect(tmp_path).open()
    for name in "ac":
        (tmp_path / "train" / f"{name}.jpg").unlink()
    with pytest.raises(InputError, match=r"no column of labels\.csv names images below its folder"):
        detect(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("place", "kind", "words"),
    [
        ("photos/nothing", None, r"'photos/nothing' is not prepared in|there is no such file or folder; as a name of the TFDS catalogue"),
        ("./nothing", None, r"folder is './nothing'; there is no such file or folder$"),
        ("set.csv", None, r"there is no such file or folder$"),
        ("tfds:pets", None, r"pets is not prepared in .*; run once: sgdr-jax prepare pets"),
        (".", "Folder", r"kind is 'Folder'; did you mean ImageFolder"),
        (".", None, "there are no images in it"),
        ("", None, "folder is ''; it is empty; name a folder"),
        ("tfds:", None, "folder is 'tfds:'; write the name of a set of the TFDS catalogue after tfds:"),
    ],
)
def test_nothing_there(tmp_path: Path, monkeypatch, place: str, kind: str | None, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with pytest.raises(InputError, match=words) as error:
        detect(place, kind)
    assert "\n" not in str(error.value)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png'; give a folder, or a file that ends in \.csv, \.jsonl or \.npz"):
        detect(tmp_path / "a.png")
    kaggle(tmp_path / "set")
    with pytest.raises(InputError, match=r"does not look like one; it can be read by labels\.csv"):
        detect(tmp_path / "set", "MetadataFolder")


def test_a_name_of_the_catalogue_and_a_folder_of_that_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for name, config, version in (("pets", "", "1.0.0"), ("pets", "", "2.0.0"), ("sat", "rgb", "3.0.0")):
        folder = tmp_path / "tfds" / name / config / version
        folder.mkdir(parents=True)
        info = {"name": name, "version": version, "fileFormat": "array_record"} | ({"configName": config} if config else {})
        (folder / "dataset_info.json").write_text(json.dumps(info))
        (folder / "features.json").write_text("{}")
    assert detect("pets") == Tfds("pets") and detect("tfds:pets:1.0.0") == Tfds("pets", "1.0.0") and detect("sat/rgb") == Tfds("sat/rgb")
    where = str((tmp_path / "tfds").resolve())
    assert detect("tfds/pets/1.0.0") == Tfds("pets", "1.0.0", where) and detect("tfds/sat/rgb/3.0.0") == Tfds("sat/rgb", "3.0.0", where)
    classes(tmp_path / "pets")
    with pytest.raises(InputError, match=r"write \./pets or tfds:pets"):
        detect("pets")
    assert detect("./pets") == ImageFolder(str((tmp_path / "pets").resolve())) and detect("tfds:pets") == Tfds("pets")


def test_new_writes_what_was_found_with_the_fields_given(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    loose(tmp_path / "pets")
    kaggle(tmp_path / "dogs")
    main(["new", "pets", "--data.pattern", r"images/(\w+)_\d", "--data.valid-fraction", "0.5", "--no-measure", "--out", "a.py"])
    main(["new", "dogs/labels.csv", "--no-measure", "--data.separator", "|"])
    root = str(tmp_path.resolve())
    assert load_experiment("a.py").data == FileNames(f"{root}/pets", r"images/(\w+)_\d", 0.5)
    assert load_experiment("dogs.py").data == CsvLabels(f"{root}/dogs", separator="|")
    out = " ".join(capsys.readouterr().out.split())
    assert "images of 2 classes in CsvLabels(" in out and "next: sgdr-jax train dogs.py" in out
    for words, wanted in (
        (["new", "pets", "--no-measure"], "data.pattern is ''; all images lie in the folder 'images': add one"),
        (["new", "dogs", "--data.patern", "x"], "Unrecognized"),
        (["new", "dogs", "--data.label-columns", "bred"], "data.label_columns is 'bred'; did you mean breed?"),
        (["new"], ""),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*words, *(["--out", "b.py"] if len(words) > 1 else [])])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and error.count("\n") == 1 and (wanted in error or wanted == "Unrecognized")
    with pytest.raises(SystemExit) as stopped:
        main(["new", "dogs", "--help"])
    assert stopped.value.code == 0 and "--data.label-columns" in capsys.readouterr().out
