"""The reader of JSON files: kinds of values, messages with the path and near names, and what is refused before it is parsed."""

import json
import math
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.json_files import MAX_DEPTH, parse_json, read_json


class Cat(TypedDict):
    kind: Literal["cat"]
    lives: int
    names: list[str]
    weight: NotRequired[float]


class Dog(TypedDict, total=False):
    kind: Literal["dog"]
    tricks: dict[str, tuple[int, float]]


class Puppy(Dog):
    weeks: int | None


def reason(value: Any, kind: Any) -> str:
    with pytest.raises(ValueError) as error:
        parse_json(json.dumps(value).encode(), kind)
    assert "\n" not in str(error.value)
    return str(error.value)


CAT = {"kind": "cat", "lives": 9, "names": ["Tom"]}


def test_values_of_the_declared_kinds_are_returned_and_unknown_fields_kept():
    assert parse_json(json.dumps(CAT | {"new": [1]}).encode(), Cat | Dog) == CAT | {"new": [1]}
    assert parse_json(b'{"kind": "dog", "weeks": null, "tricks": {"sit": [1, 2]}}', Puppy)["tricks"] == {"sit": [1, 2]}
    assert math.isnan(parse_json(json.dumps(CAT | {"weight": None}).encode(), Cat)["weight"])  # as numbers that are not finite are written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lives": "9"}, "lives is '9', not an integer"),
        ({"lives": True}, "lives is True, not an integer"),
        ({"lives": 1.0}, "lives is 1.0, not an integer"),
        ({"lives": 1 << 63}, "not an integer"),
        ({"names": "Tom"}, "names is 'Tom', not a list"),
        ({"names": ["Tom", 3]}, "names[1] is 3, not a text"),
        ({"weight": [1]}, "weight is [1], not a number"),
        ({"kind": "cta"}, "kind is 'cta', not cat, dog; did you mean cat?"),
        ({"kind": "dog", "tricks": {"sit": [1]}}, "tricks.sit has 1 entries, not 2"),
    ],
)
def test_other_kinds_are_named_with_their_path(change, message):
    assert message in reason(CAT | change, Cat | Dog)


def test_missing_fields_are_named_with_near_ones():
    assert reason({"kind": "cat", "live": 9, "names": []}, Cat) == "the whole has no field lives; did you mean live?"
    assert reason({"kind": "dog"}, Puppy) == "the whole has no field weeks"
    assert reason(3, Cat) == "the whole is 3, not an object"
    assert reason([3], Cat | None) == "the whole is [3], not an object or null"


@pytest.mark.parametrize(
    "text",
    [
        *(b"[" * 100_000, b'{"a":' * 100_000, b"[" * (1 << 20), b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
        *(b"1" * 5000, b'"\\ud800"', b"\xff", b""),
    ],
)
def test_what_could_end_in_a_traceback_later_is_refused(text, tmp_path: Path):
    file = tmp_path / "a.json"
    file.write_bytes(text)
    with pytest.raises(InputError, match=r"a\.json cannot be read \(.*\); restore it"):
        read_json(file, Any, "restore it")


def test_missing_files_are_none_and_folders_refused(tmp_path: Path):
    assert read_json(tmp_path / "none.json", Cat, "") is None
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path, Cat, "")


PLAIN = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_value_is_returned_or_refused(value):
    try:
        parse_json(json.dumps({"kind": "cat", "lives": value, "names": value}).encode(), Cat | Dog)
    except ValueError:
        return
    assert isinstance(value, int)
