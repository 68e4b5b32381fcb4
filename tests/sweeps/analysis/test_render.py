"""The answer of a sweep in words: tables, files, the command."""

import csv
import io
import os
from pathlib import Path

import pytest

from sgdr_jax.cli import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.sweeps import Sweep, arms
from sgdr_jax.sweeps.analysis import render, tables
from sgdr_jax.sweeps.analysis.compare import Comparison, compare_arms

from ...helpers import experiment
from ...report.run_folders import Page, check_self_contained
from ..results import fill
from .three_arms import SKILL, of


def test_one_run_of_each_arm_says_no_more_than_it_knows(tmp_path: Path) -> None:
    sweep = Sweep("one", experiment(), (arms({"recipe": {}, "without": {"label_smoothing": 0.1}}),), seeds=(3,))
    fill(tmp_path / "one", sweep, lambda run, _: SKILL[run.arm])
    found = compare_arms(tmp_path / "one")
    row = dict(zip(tables.comparison_header(found), tables.comparison_rows(found)[1], strict=True))
    assert "±" not in row["accuracy %"] and row["95 % interval"] == row["p"] == row["to settle"] == "" and row[""] == "undecided"
    assert row["difference (points)"] and row["p, examples"]
    assert len(render.publish(found, tmp_path / "out")) == 7


def test_the_files_say_the_same(found: Comparison, tmp_path: Path) -> None:
    made = {path.name: path for path in render.publish(found, tmp_path / "out")}
    assert set(made) == {"arms.png", "curves.png", "time.png", "answer.md", "answer.csv", "answer.html", "classes.csv"}
    table = list(csv.DictReader(io.StringIO(made["answer.csv"].read_text())))
    assert [row["arm"] for row in table] == ["recipe", "without", "same"]
    assert float(table[1]["difference"]) == of(found, "without").paired.mean and table[1]["verdict"] == "worse"
    assert table[0]["difference"] == "" and int(table[1]["gained"]) == of(found, "without").paired.change.gained

    text = made["answer.html"].read_text("utf-8")
    page = Page(text)
    check_self_contained(text, page)
    assert [attributes["src"][:22] for tag, attributes in page.elements if tag == "img"] == ["data:image/png;base64,"] * 2
    seeds = [row for row in text.split('<tr class="')[1:] if '<span class="track">' in row]
    assert [row.partition('"')[0] for row in seeds] == ["baseline", "worse", "undecided"]
    assert [row.count("<b style=") for row in seeds] == [len(arm.runs) + bool(arm.paired) for arm in found.arms]
    for row in tables.comparison_rows(found):
        assert all(cell in page.texts for cell in row if cell)
        assert all(render.as_markdown(cell) in made["answer.md"].read_text() for cell in row)
    for text in (made["answer.md"].read_text(), made["answer.html"].read_text()):
        for fact in ("sgdr-jax sweep file.py", "2 cores of Some CPU", "jax 0.12.0.1", "2026-11-25", "abc", "failed: the loss is nan"):
            assert fact in text
        assert "/somewhere" not in text


def test_the_page_has_the_effect_on_each_class(found: Comparison, tmp_path: Path) -> None:
    made = {path.name: path for path in render.publish(found, tmp_path / "out")}
    table = list(csv.DictReader(io.StringIO(made["classes.csv"].read_text())))
    assert [(row["arm"], row["class"]) for row in table] == [
        (name, found.classes[effect.index]) for name in ("without", "same") for effect in of(found, name).paired.classes
    ]
    assert [float(row["mean"]) for row in table] == [x.mean for name in ("without", "same") for x in of(found, name).paired.classes]
    page = Page(made["answer.html"].read_text("utf-8"))
    titles, rows = tables.class_cells(found)
    assert len(rows) == 6 and all(cell in page.texts for row in (titles, *rows) for cell in row if cell)
    first = tables.class_cells(found, most=1)[1]
    assert [row[0] for row in first] == ["without", "same"]
    assert first[0][1] == found.classes[max(of(found, "without").paired.classes, key=lambda x: abs(x.mean)).index]
    assert any(line.startswith("By class") for line in render.notes(found))


def test_another_interval_follows_where_it_differs(found: Comparison) -> None:
    arm = of(found, "without")
    near = arm.paired._replace(t_low=arm.paired.low, t_high=arm.paired.high)
    far = near._replace(t_low=arm.paired.low - 0.05, t_high=arm.paired.high + 0.05)
    cells = {}
    for name, paired in (("near", near), ("far", far)):
        one = found._replace(arms=(arm._replace(paired=paired),))
        cells[name] = dict(zip(tables.comparison_header(one), tables.comparison_rows(one)[0], strict=True))["95 % interval"]
        assert any("Student's interval" in line for line in render.notes(one)) == (name == "far")
        assert "(t: " not in str(render.terminal(one)[0].columns[-1]._cells)
    both = f"{100 * (arm.paired.low - 0.05):+.2f} … {100 * (arm.paired.high + 0.05):+.2f}"
    assert cells["far"] == f"{cells['near']} (t: {both})"


def test_results_are_put_in_their_place(found: Comparison, tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    render.publish(found, tmp_path / "out", file)
    first = file.read_bytes()
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"three-arms.png", "three-curves.png", "three-time.png"}
    pictures = {path: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    render.publish(found, tmp_path / "out", file)
    assert file.read_bytes() == first and pictures == {path: path.read_bytes() for path in pictures}
    text = file.read_text()
    assert text.startswith("# Results") and "Does it help?" in text and r"And \| how?" in text
    assert "](results/three-arms.png)" in text
    # Another sweep's section goes below, and each is replaced where it stands.
    other = render.put(text, found._replace(name="other", question=""), [])
    assert other.startswith(text.rstrip("\n")) and other.count("## ") == 2
    assert render.put(other, found, [f"results/three-{kind}.png" for kind in ("arms", "curves", "time")]) == other
    with pytest.raises(InputError, match="restore that line"):
        render.put(text.replace("<!-- end three -->", ""), found, [])


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["compare", str(folder), "--out", str(tmp_path / "out"), "--measure", "loss"])
    printed = capsys.readouterr().out
    assert "three: 3 arms" in printed and "left out: without, seed 2: not run yet" in " ".join(printed.split())
    assert (tmp_path / "out" / "answer.html").exists()
    with pytest.raises(SystemExit) as stopped:
        main.main(["compare", str(folder), "--results", str(tmp_path / "no" / "RESULTS.md")])
    assert stopped.value.code == 2 and not (folder / "answer").exists()
    (tmp_path / "a file").touch()
    os.mkfifo(pipe := tmp_path / "pipe")
    for option, value, message in (("--out", str(tmp_path / "a file"), "it is a file; name a folder"), ("--results", str(pipe), "a pipe;")):
        with pytest.raises(SystemExit) as stopped:
            main.main(["compare", str(folder), option, value])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
