"""A run that goes on with other data is refused, with what has changed; it goes on if that is accepted."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax import InputError
from sgdr_jax.cli.main import main
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.runs.data_index import DataIndex, changes, read_index, write_index
from sgdr_jax.runs.run import run
from sgdr_jax.train.context import prepare

from .test_resume import cut, facts, small

INDEX: DataIndex = {
    "classes": ["cat", "dog"],
    "names": {"train": ["cat/1", "cat/2", "dog/1", "dog/2"], "valid": ["cat/3", "dog/3"]},
    "labels": {"train": [[0], [0], [1], [1]], "valid": [[0], [1]]},
    "digests": {"train": ["a", "b", "c", "d"], "valid": ["e", "f"]},
}


def changed(split: str = "train", **columns) -> DataIndex:
    index = copy.deepcopy(INDEX)
    for name, values in columns.items():
        index[name][split] = values
    return index


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (INDEX, []),
        (changed(digests=["a", "x", "c", "d"]), ["1 image replaced ('cat/2')"]),
        (changed(digests=["a", "b", "c", "c"]), ["1 image replaced ('dog/2')"]),
        (changed(labels=[[0], [1], [1], [1]]), ["1 image of another class ('cat/2')"]),
        (changed(labels=[[0, 1], [0], [1], []]), ["2 images of another class ('cat/1', 'dog/2')"]),
        (changed(names=["cat/1", "dog/9", "dog/1", "dog/2"], labels=[[0], [1], [1], [1]]), ["1 image moved or renamed ('cat/2 → dog/9')"]),
        (changed(names=["cat/1"], labels=[[0]], digests=["a"]), ["3 images removed or unreadable now ('cat/2', 'dog/1', 'dog/2')"]),
        (
            changed(names=[*"12345678"], labels=[[0]] * 8, digests=[*"stuvwxyz"]),
            ["8 images added ('1', '2', '3', …)", "4 images removed or unreadable now ('cat/1', 'cat/2', 'dog/1', …)"],
        ),
        (INDEX | {"classes": ["cat", "dog", "emu"]}, ["the classes were ['cat', 'dog'] and are ['cat', 'dog', 'emu']"]),
    ],
)
def test_what_has_changed_is_counted_and_named(now, told):
    assert changes(INDEX, now) == told


def test_images_of_one_name_and_of_another_split_are_told_apart():
    twice = changed(names=["cat/1", "cat/1", "dog/1", "dog/2"])
    assert changes(twice, copy.deepcopy(twice)) == []
    other = copy.deepcopy(INDEX)
    for column, value in (("names", "cat/1"), ("labels", [0]), ("digests", "a")):
        other[column]["train"].remove(value)
        other[column]["valid"].append(value)
    assert changes(INDEX, other) == ["1 image of another split ('cat/1')"]


def test_all_images_replaced_may_be_the_decoder():
    now = copy.deepcopy(INDEX)
    now["digests"] = {"train": [*"stuv"], "valid": [*"wx"]}
    assert changes(INDEX, now) == ["6 images replaced ('cat/1', 'cat/2', 'dog/1', …; perhaps by another version of the decoder)"]


def test_a_damaged_index_is_an_error_in_one_line(tmp_path):
    assert read_index(tmp_path) is None
    write_index(tmp_path, INDEX)
    assert read_index(tmp_path) == INDEX
    whole = (tmp_path / "images.json.gz").read_bytes()
    for damaged in (whole[:-9], b"", whole[:30] + bytes([whole[30] ^ 1]) + whole[31:]):
        (tmp_path / "images.json.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            read_index(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of photographs, and a run on it that was killed."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(40):
        path = root / "set" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cut(root / "run", small(data=ImageFolder("set")), at=7)
    return root


def swap(folder) -> None:
    (folder / "cat").rename(folder / "x")
    (folder / "dog").rename(folder / "cat")
    (folder / "x").rename(folder / "dog")


def add(folder) -> None:
    Image.new("RGB", (16, 16), "red").save(folder / "cat" / "new.png")


def replace(folder) -> None:
    Image.new("RGB", (16, 16), "red").save(folder / "cat" / "4.png")


def remove(folder) -> None:
    (folder / "dog" / "5.png").unlink()


def move(folder) -> None:
    (folder / "dog" / "5.png").rename(folder / "cat" / "5.png")


def another_class(folder) -> None:
    shutil.copytree(folder / "cat", folder / "emu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap, "40 images moved or renamed ('dog/1.png → cat/1.png', "),
        (add, "1 image added ('cat/new.png')"),
        (replace, "1 image replaced ('cat/4.png')"),
        (remove, "1 image removed or unreadable now ('dog/5.png')"),
        (move, "1 image moved or renamed ('dog/5.png → cat/5.png')"),
        (another_class, "the classes were ['cat', 'dog'] and are ['cat', 'dog', 'emu']"),
    ],
)
def test_a_run_does_not_go_on_with_changed_data_unless_they_are_accepted(made, tmp_path, monkeypatch, change, words):
    for name in ("set", "run"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    experiment = small(data=ImageFolder("set"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    change(tmp_path / "set")
    with pytest.raises(InputError, match=r"the data are not those that run folder run began with: .*, or use another run folder") as error:
        run(experiment, "run", resume=True)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before

    def accepting(e):
        return prepare(e)._replace(accept_new_data=True)

    if change is another_class:
        with pytest.raises(InputError, match="no network fits both"):
            run(experiment, "run", resume=True, prepared=accepting)
        return
    assert "--accept-new-data" in str(error.value)
    cut_again = facts(tmp_path / "run")[:5]
    assert run(experiment, "run", resume=True, prepared=accepting)["valid"]["accuracy"] >= 0
    assert facts(tmp_path / "run")[:5] == cut_again
    index = read_index("run")
    assert index and words.split(" (")[0] in "; ".join(index.get("accepted", ()))
    assert json.loads(Path("run", "summary.json").read_text())["stages"][1]["steps"] > 0


def test_unchanged_data_and_runs_of_early_versions_go_on(made, tmp_path, monkeypatch):
    for name in ("set", "run"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "images.json.gz").unlink()
    run(small(data=ImageFolder("set")), "run", resume=True)
    index = read_index(tmp_path / "run")
    assert index and sum(map(len, index["names"].values())) == 40


def test_the_flag_needs_resume(tmp_path, capsys):
    file = tmp_path / "e.py"
    file.write_text("from tests.runs.test_resume import small\nexperiment = small()\n")
    with pytest.raises(SystemExit) as left:
        main(["train", str(file), "--run", str(tmp_path / "r"), "--accept-new-data"])
    assert left.value.code == 2 and "--accept-new-data is True; it is for --resume" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
