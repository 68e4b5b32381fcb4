"""Options as tyro parses them: names, values, errors."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from sgdr_jax import Experiment, Find
from sgdr_jax.cli import parsing
from sgdr_jax.cli.commands.train import TrainCommand
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.serialization import config_hash, from_json, to_json

Fails = Callable[..., str]
FIND = Find()


def test_a_plain_value_has_a_name_and_a_stray_word_changes_nothing(place: Path, tmp_path: Path, fails: Fails) -> None:
    """A field that may hold a number or an object, such as a cycle's length, is set by its name and not by a bare word."""
    file, out = place / "photos.py", tmp_path / "plan.csv"
    for words, wrong in ((["0.5"], "Unrecognized options: 0.5"), (["--refit", "False"], "a switch takes no value: --NAME or --no-NAME")):
        assert wrong in fails("plan", file, "--train-size", "100", *words)
    main(["plan", str(file), "--train-size", "100", "--stages.2.schedule.cycle-len", "2", "--csv", str(out)])
    rows = list(csv.DictReader(out.read_text().splitlines()))
    main(["plan", str(file), "--train-size", "100", "--csv", str(out)])
    usual = list(csv.DictReader(out.read_text().splitlines()))
    last = [sum(row["stage"] == "all" for row in table) for table in (rows, usual)]
    assert last[0] == 2 * last[1] and len(rows) - len(usual) == last[1]


def test_what_is_parsed_is_of_its_own_kind(place: Path) -> None:
    given = load_experiment(place / "photos.py")
    read = parsing.parse(TrainCommand, ["--seed", str(given.seed)], "train", TrainCommand(experiment=given)).experiment
    assert read == given and [type(s.schedule) for s in read.stages] == [type(s.schedule) for s in given.stages]
    assert type(read) is Experiment and config_hash(read) == config_hash(given)
    assert [type(s.schedule) for s in from_json(to_json(read.stages))] == [type(s.schedule) for s in given.stages]


@dataclass(frozen=True)
class Rates:
    """Options with a field that holds a value or an object."""

    lr: float | tuple[float, ...] | Find | None = FIND
    """Rate."""
    steps: int = 1
    """Number of steps."""


@dataclass(frozen=True)
class Choice:
    """Options that are not set unless they are given."""

    split: Literal["train", "valid", "test"] | None = None
    """Split."""
    out: Path | None = None
    """File."""
    most: int | None = 3
    """Number, or None for all."""


@dataclass(frozen=True)
class Nothing:
    """Options of which one is an object or nothing, and another has values that need no quotes."""

    find: Find | None = None
    """Finder."""
    level: Literal[1, 2] = 1
    """Level."""


@pytest.mark.parametrize(
    ("words", "line"),
    [(["--find", "adamw"], "--find is 'adamw'; use None"), (["--level", "3"], "--level is '3'; use 1 or 2")],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_choice_is_one_line_also_where_none_is_the_only_value(words: list[str], line: str) -> None:
    with pytest.raises(InputError) as error:
        parsing.parse(Nothing, words, "prog")
    assert str(error.value) == line


def test_not_given_is_no_choice_and_choices_have_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^--split is 'tes'; use train, valid or test$"):
        parsing.parse(Choice, ["--split", "tes"], "prog")
    with pytest.raises(SystemExit, match="0"):
        parsing.parse(Choice, ["--help"], "prog")
    text = capsys.readouterr().out
    assert "--split {train,valid,test}" in text and "--out PATH" in text and "--most {None}|INT" in text
    assert parsing.parse(Choice, [], "prog") == Choice() == parsing.parse(Choice, ["--split", "None", "--out", "None"], "prog")
    assert parsing.parse(Choice, ["--split", "test", "--out", "x", "--most", "None"], "prog") == Choice("test", Path("x"), None)


@pytest.mark.parametrize("default", [Find(), 0.5, (0.1, 0.2), None])
@pytest.mark.parametrize(
    ("words", "lr"), [(["--lr", "0.3"], 0.3), (["--lr=0.3"], 0.3), (["--lr", "1e-3", "2"], (1e-3, 2.0)), (["--lr", "None"], None)]
)
def test_a_value_replaces_a_value_or_an_object(default: object, words: list[str], lr: object) -> None:
    assert parsing.parse(Rates, [*words, "--steps", "2"], "prog", Rates(default)) == Rates(lr, 2)  # type: ignore[arg-type]


def test_options_of_an_object_change_it_and_nothing_given_keeps_it() -> None:
    assert parsing.parse(Rates, ["--lr.steps", "17"], "prog") == Rates(Find(steps=17))
    assert parsing.parse(Rates, [], "prog", Rates(Find(steps=9))) == Rates(Find(steps=9))
    assert parsing.parse(Rates, ["--lr.steps", "17", "--lr", "0.1"], "prog") == Rates(0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "foo"], r"--lr is \['foo'\]; use \{None\}\|FLOAT\|.*FLOAT"),
        (["--steps", "x"], "--steps: invalid literal for int.*'x'"),
        (["--setps", "1"], r"Unrecognized options: --setps, 1; did you mean --steps\?$"),
        (["--lr.steps", "7"], r"lr\.steps is 7; use at least 8$"),
        (["1"], "Unrecognized options: 1; --help lists the options"),
        (["--setps", "True"], r"Unrecognized options: --setps, True; did you mean --steps\?$"),
        (["--setps=False"], r"Unrecognized options: --setps=False; --help lists the options$"),
        (["--qqq", "True"], r"Unrecognized options: --qqq, True; --help lists the options$"),
    ],
)
def test_errors_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parsing.parse(Rates, words, "prog")
    assert "\n" not in str(error.value) and "helptext" not in str(error.value)


def test_words_of_other_options_are_returned_in_order() -> None:
    rates, others = parsing.parse_known(Rates, ["--a", "1", "--steps", "3", "--b=2", "c"], "prog")
    assert rates == Rates(steps=3) and others == ["--a", "1", "--b=2", "c"]
