"""Suspects of confident learning: as CSV, as a page on which one decides, and decisions read back."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.errors import InputError
from ..core.text import csv_list, csv_text, csv_value
from ..core.validation import require
from ..evaluation.confident_learning import Suspect
from .html import data_uri, page

MOST_SHOWN = 300
"""Most suspects on the page; the CSV file has all."""
COLUMNS = ("name", "label", "suggested", "probability_label", "probability_suggested", "margin", "decision")
DECISIONS = ("keep", "drop", "relabel")


class SuspectRow(NamedTuple):
    """A suspect in words: name of the image, its classes, the suggested ones, their probabilities (None for multi-label), the margin."""

    name: str
    label: tuple[str, ...]
    suggested: tuple[str, ...]
    probability_label: float | None
    probability_suggested: float | None
    margin: float


class Decisions(NamedTuple):
    """What was decided: names of images to leave out, and (name, classes…) of those with another label; see `datasets.Corrected`."""

    drop: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]


def suspect_rows(
    suspects: Sequence[Suspect], names: Sequence[str], classes: Sequence[str], labels: np.ndarray, probabilities: np.ndarray
) -> list[SuspectRow]:
    """Put suspects in words."""
    rows = []
    for index, suggested, margin in suspects:
        label, p = labels[index], probabilities[index]
        own = tuple(np.flatnonzero(label).tolist()) if labels.ndim == 2 else (int(label),)
        p_own, p_suggested = (None, None) if labels.ndim == 2 else (float(p[own[0]]), float(p[suggested[0]]))
        own_names, suggested_names = (tuple(classes[c] for c in part) for part in (own, suggested))
        rows.append(SuspectRow(names[index], own_names, suggested_names, p_own, p_suggested, margin))
    return rows


def cell_text(classes: Sequence[str], multi_label: bool) -> str:
    """Return classes as one cell: the class itself, or for multi-label data a list with semicolons, quoted as CSV quotes.

    >>> cell_text(["a", "b;c"], True)
    'a;"b;c"'
    """
    return csv_list(classes, ";") if multi_label else classes[0]


def cell_classes(text: str, multi_label: bool) -> tuple[str, ...]:
    """Return the classes of a cell that `cell_text` has written.

    >>> cell_classes('a;"b;c"', True)
    ('a', 'b;c')
    """
    return tuple(next(csv.reader([text], delimiter=";"), ())) if multi_label else (text,)


def suspects_csv(rows: Sequence[SuspectRow], multi_label: bool) -> str:
    """Return the suspects as CSV, the most suspicious first, with an empty column for decisions."""
    cells: list[Sequence[object]] = [COLUMNS]
    for row in rows:
        numbers = ("" if x is None else f"{x:.4f}" for x in row[3:])
        cells.append([row.name, cell_text(row.label, multi_label), cell_text(row.suggested, multi_label), *numbers, ""])
    return csv_text(cells)


def read_decisions(path: Path, multi_label: bool) -> Decisions:
    """Read decisions: a CSV file with the columns name, decision (keep, drop, relabel or empty) and suggested, the label of `relabel`.

    Raises:
        InputError: the file is missing or another one, or a decision is unknown; names the line.
    """
    require(path.is_file(), "--apply", str(path), "there is no such file")
    drop, labels, seen = list[str](), list[tuple[str, ...]](), set[str]()
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _check_header(path, reader.fieldnames or ())
            for row in reader:
                place, decision = f"{path.name} line {reader.line_num}: decision", (row["decision"] or "").strip().lower()
                require(decision in ("", *DECISIONS), place, decision, f"use {', '.join(DECISIONS)} or leave it empty")
                if decision in ("", "keep"):
                    continue
                name, suggested = csv_value(row["name"] or ""), csv_value(row["suggested"] or "")
                require(name not in seen, place, name, "decide once on an image")
                seen.add(name)
                if decision == "drop":
                    drop.append(name)
                else:
                    labels.append((name, *cell_classes(suggested, multi_label)))
        except csv.Error as error:
            raise InputError(f"{path.name} line {reader.line_num + 1}: not a row of a CSV file ({error}); repair it") from error
    require(bool(seen), "--apply", str(path), "no image is to be dropped or relabelled; fill in the column decision")
    return Decisions(tuple(drop), tuple(labels))


def _check_header(path: Path, header: Sequence[str]) -> None:
    """Raise InputError where a column of a file of decisions is missing, or there twice."""
    needed = ("name", "decision", "suggested")
    fix = "use the file of suspects with decisions filled in"
    for wrong, what in (([n for n in needed if n not in header], "no column"), ([n for n in needed if header.count(n) > 1], "two columns")):
        require(not wrong, "--apply", str(path), f"it has {what} {', '.join(wrong)}; {fix}")


def suspects_html(rows: Sequence[SuspectRow], thumbnails: Mapping[str, bytes], images: int, multi_label: bool, run: str) -> str:
    """Format the page: suspects with thumbnails and decisions, which it offers to save as CSV.

    Args:
        rows: suspects, the most suspicious first.
        thumbnails: JPEG images by name.
        images: number of images looked at.
        multi_label: whether an image can have several classes.
        run: the run folder.
    """
    shown = [
        (row, cell_text(row.suggested, multi_label), data_uri(jpeg) if (jpeg := thumbnails.get(row.name)) else "")
        for row in rows[:MOST_SHOWN]
    ]
    return page("suspects.html", title="Labels to look at", run=run, images=images, total=len(rows), rows=shown, decisions=DECISIONS)
