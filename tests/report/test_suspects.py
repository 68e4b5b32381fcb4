"""Suspects in words and back: names and classes of any kind survive, decisions are checked, the page has them all."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.evaluation.confident_learning import Suspect
from sgdr_jax.report.suspects import COLUMNS, cell_classes, cell_text, read_decisions, suspect_rows, suspects_csv, suspects_html

from .run_folders import NASTY, Page, check_self_contained

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.lists(NAMES, max_size=4, unique=True))
def test_classes_survive_a_cell(classes: list[str]) -> None:
    assert cell_classes(cell_text(classes, True), True) == tuple(classes)
    for name in classes:
        assert cell_classes(cell_text([name], False), False) == (name,)


def rows(multi_label: bool = False):
    labels = np.eye(len(NASTY))[:2] if multi_label else np.array([0, 1])
    suspects = [Suspect(1, (2, 3) if multi_label else (2,), -0.9), Suspect(0, () if multi_label else (5,), -0.25)]
    return suspect_rows(suspects, ["a,b.png", "<i>.png"], NASTY, labels, np.full((2, len(NASTY)), 0.125))


def decided(tmp_path: Path, multi_label: bool, *decisions: str) -> Path:
    table = list(csv.DictReader(io.StringIO(suspects_csv(rows(multi_label), multi_label))))
    assert tuple(table[0]) == COLUMNS and [row["name"] for row in table] == ["<i>.png", "a,b.png"]
    path = tmp_path / "decisions.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"decision": decision} for row, decision in zip(table, decisions, strict=True))
    return path


def test_decisions_come_back(tmp_path: Path) -> None:
    found = read_decisions(decided(tmp_path, False, "relabel", "drop"), False)
    assert found.drop == ("a,b.png",) and found.labels == (("<i>.png", NASTY[2]),)
    found = read_decisions(decided(tmp_path, True, "Relabel ", "relabel"), True)
    assert found.labels == (("<i>.png", NASTY[2], NASTY[3]), ("a,b.png",)) and found.drop == ()
    assert read_decisions(decided(tmp_path, False, "keep", "drop"), False).drop == ("a,b.png",)


def test_wrong_decisions_are_told_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"decisions\.csv line 3: decision is 'delete'; use keep, drop, relabel"):
        read_decisions(decided(tmp_path, False, "drop", "delete"), False)
    with pytest.raises(InputError, match="no image is to be dropped or relabelled"):
        read_decisions(decided(tmp_path, False, "", "keep"), False)
    path = tmp_path / "other.csv"
    path.write_text("name,label\na,b\n")
    with pytest.raises(InputError, match="it has no column decision, suggested"):
        read_decisions(path, False)
    path.write_text("name,decision,suggested\na,drop,\na,drop,\n")
    with pytest.raises(InputError, match="line 3: decision is 'a'; decide once"):
        read_decisions(path, False)
    path.write_text('name,decision,suggested\n"a"b,drop,\n')
    with pytest.raises(InputError, match="line 2: not a row of a CSV file"):
        read_decisions(path, False)
    with pytest.raises(InputError, match="there is no such file"):
        read_decisions(tmp_path / "none.csv", False)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_page_has_each_suspect_with_its_decision(multi_label: bool) -> None:
    text = suspects_html(rows(multi_label), {"<i>.png": b"jpeg"}, 1234, multi_label, "runs/x")
    page = Page(text)
    check_self_contained(text, page)
    items = [attributes for tag, attributes in page.elements if tag == "li" and "data-name" in attributes]
    assert [item["data-name"] for item in items] == ["<i>.png", "a,b.png"]
    assert [cell_classes(item["data-suggested"], multi_label) for item in items] == [row.suggested for row in rows(multi_label)]
    groups = [attributes["name"] for tag, attributes in page.elements if tag == "input"]
    assert len(groups) == 6 and len(set(groups)) == 2 and page.count("img") == 1
    assert NASTY[2] in page.texts and "2 of 1,234 images" in " ".join(page.texts)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('name,"decision,suggested', "not a row of a CSV file"),
        ('name,dec"ision"x,"sug"gested', "not a row of a CSV file"),
        ("name,decision,suggested,decision", "it has two columns decision; use the file of suspects"),
        ("name,name,decision,suggested", "it has two columns name; use the file of suspects"),
        ("name,suggested", "it has no column decision; use the file of suspects"),
        ("", "it has no column name, decision, suggested;"),
    ],
)
def test_a_header_that_is_none_is_refused(header: str, message: str, tmp_path: Path) -> None:
    """A broken one was a traceback; of two columns of one name the last won in silence."""
    file = tmp_path / "decisions.csv"
    file.write_text(f"{header}\nx.png,drop,,keep\n")
    with pytest.raises(InputError, match=message):
        read_decisions(file, False)
