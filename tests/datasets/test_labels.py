"""Label arrays: counts and strata."""

import numpy as np
import pytest

from sgdr_jax.datasets.labels import constant_notes, counts, shared_names, strata


def test_counts_of_both_kinds_of_labels():
    assert counts(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    assert counts(np.array([[1, 0], [1, 1]], np.float32), 2).tolist() == [2, 1]


def test_a_stratum_is_the_class_or_the_rarest_label():
    assert strata(np.array([2, 0], np.int32)).tolist() == [2, 0]
    assert strata(np.array([[1, 1], [1, 0], [0, 0]], np.float32)).tolist() == [1, 0, 2]


def test_labels_that_do_not_vary_are_told_in_one_line() -> None:
    train = np.array([[1, 1, 0, 1], [1, 0, 1, 1]], np.float32)
    valid = np.array([[1, 0, 0, 1], [1, 0, 1, 0]], np.float32)
    (line,) = constant_notes(("all", "some", "half", "most"), {"train": train, "valid": valid})
    assert (
        line == "labels that do not vary, which the mean average precision leaves out: 'all' (train, valid), 'most' (train), 'some' (valid)"
    )
    assert constant_notes(("a", "b"), {"train": train[:, 1:3]}) == constant_notes(("a", "b"), {"train": np.zeros(4, np.int32)}) == []
    (line,) = constant_notes([f"{i}" for i in range(30)], {"train": np.ones((4, 30), np.float32)})
    assert line.count("(train)") == 8 and line.endswith("'7' (train) and 22 more")


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "Cat"),
        ("cat", "cat "),
        ("cat", "\u0441at"),  # a Cyrillic letter
        ("cat", "c\u200bat"),
        ("cat", "\uff43at"),
        ("cat", "'cat'"),
        ("cat", "\u201ccat\u201d"),
        ("1", "1.0", "01", "\u0661"),
        ("nan", "NaN"),
    ],
)
def test_names_that_look_alike_or_are_the_same_number_are_told(names: tuple[str, ...]) -> None:
    together = ", ".join(map(repr, names))
    assert shared_names(("dog", *names, "bird")) == [f"the classes {together} look alike, or are the same number"]


@pytest.mark.parametrize(
    "names", [("cat", "cut"), ("1", "10"), ("9" * 5000, "9" * 5001), ("0", "o"), ("", "a"), ("inf", "nan"), ("\u0436", "x")]
)
def test_other_names_are_not(names: tuple[str, ...]) -> None:
    assert shared_names(names) == []
