"""Experiment files: what they must define, and errors of one line for what they do instead."""

import os
import sys
from pathlib import Path

import pytest

from sgdr_jax.cli.experiment_file import load_experiment, load_sweep
from sgdr_jax.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n\n1 / 0\n", "cannot be loaded at line 3: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('stop')\n", "cannot be loaded at line 2: SystemExit: stop"),
        ("def f(:\n", "cannot be loaded: SyntaxError"),
        ("from sgdr_jax import Sgrd\n", "at line 1: ImportError: cannot import name 'Sgrd' from 'sgdr_jax'"),
        ("from sgdr_jax import lesson3\n", "Did you mean: 'lesson2'?"),
        ("experiment = 3\n", "has a int as `experiment`; define `experiment = Experiment(...)`"),
        ("experimnt = 3\n", "has no `experiment`; define `experiment = Experiment(...)`"),
        ("from sgdr_jax import Stage\nStage('')\n", "stage \"\": name is ''; give the stage a name"),
    ],
)
def test_a_file_that_defines_no_experiment_is_rejected(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        load_experiment(file)
    assert message in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def test_a_line_is_named_in_a_file_with_a_relative_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=r"x\.py cannot be loaded at line 1: ZeroDivisionError"):
        load_experiment("x.py")


def test_a_missing_file_and_one_of_another_kind_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"sweep file is '.*nowhere\.py'; there is no such file; give the path of a Python file that defines `sweep`"
    ):
        load_sweep(tmp_path / "nowhere.py")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(InputError, match=r"give a file that ends in \.py"):
        load_experiment(tmp_path / "x.txt")


def test_a_folder_is_told_what_makes_a_file_of_it(tmp_path: Path) -> None:
    images, run = tmp_path / "my photos", tmp_path / "run"
    images.mkdir()
    run.mkdir()
    (run / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"experiment file is '.*my photos'; it is a folder; `sgdr-jax new '.*my photos'` writes one"):
        load_experiment(images)
    with pytest.raises(InputError, match=r"experiment file is '.*run'; it is a folder of results; give the Python file"):
        load_experiment(run)


def test_values_of_other_kinds_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    text = "from sgdr_jax import *\nfrom sgdr_jax.datasets import Synthetic\nfrom sgdr_jax.models import ResNet18\n"
    file.write_text(text + "experiment = Experiment('x', Synthetic(), ResNet18(), (Stage('a', schedule=Sgdr(1)),), seed=1.5)")
    with pytest.raises(InputError, match=r"x\.py: seed is 1\.5; use a whole number$"):
        load_experiment(file)


def test_a_file_changed_within_a_second_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script does that writes one experiment after the other; with Python's own bytecode the second would be the first."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file, text = tmp_path / "a.py", (Path(__file__).parents[2] / "experiments" / "cifar10.py").read_text()
    seeds = []
    for seed in (3, 4):
        file.write_text(text + f"\nfrom dataclasses import replace\nexperiment = replace(experiment, seed={seed})\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        seeds.append(load_experiment(file).seed)
    assert seeds == [3, 4] and [path.name for path in tmp_path.iterdir()] == ["a.py"]
