"""`sgdr-jax eval`: figures, tables, temperatures."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdr_jax.cli.main import main

Fails = Callable[..., str]


def test_eval_prints_what_the_run_found(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((run_folder / "summary.json").read_text())
    main(["eval", str(run_folder), "--split", "valid"])
    assert f"{summary['valid']['tta_accuracy']:.4f}" in capsys.readouterr().out
    main(["eval", str(run_folder), "--tta-views", "0"])
    assert "tta" not in capsys.readouterr().out


def test_eval_writes_predictions_and_what_each_view_brings(place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["eval", str(run_folder), "--split", "valid", "--out", str(place / "valid.csv")])
    assert "views of valid" in capsys.readouterr().out
    rows = list(csv.DictReader((place / "valid.csv").read_text().splitlines()))
    summary = json.loads((run_folder / "summary.json").read_text())
    right = sum(row["true"] == row["label"] for row in rows) / len(rows)
    assert right == pytest.approx(summary["valid"]["tta_accuracy"]) == summary["tta"]["valid"][-1]["accuracy"]
    assert {row["disagreement"] for row in rows} <= {"0.000", "0.500", "1.000"}


def test_changed_data_are_noticed_and_any_file_name_is_written(place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["eval", str(run_folder), "--tta-views", "0"])
    assert "files of the data are not those of the run" not in capsys.readouterr().out
    odd = place / "data/valid/red" / os.fsdecode(b"b\xe4d.png")
    odd.write_bytes((place / "data/valid/red/0.png").read_bytes())
    try:
        main(["eval", str(run_folder), "--tta-views", "0", "--out", str(place / "eval.csv")])
    finally:
        odd.unlink()
    assert "files of the data are not those of the run" in capsys.readouterr().out.replace("\n", " ")
    assert b"b\xe4d.png" in (place / "eval.csv").read_bytes()


def test_images_with_other_pixels_are_told_whatever_their_times(place: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> str:
        main(["eval", str(run_folder), "--tta-views", "0"])
        return capsys.readouterr().out.replace("\n", " ")

    first = place / "data/valid/red/0.png"
    before, status = first.read_bytes(), first.stat()
    try:
        first.write_bytes((place / "data/valid/blue/0.png").read_bytes())
        os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert "1 image replaced ('valid/red/0.png') since the run began" in said()
    finally:
        first.write_bytes(before)
        os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "replaced" not in said()


def test_another_process_needs_the_experiment_file_for_its_own_classes(place: Path, run_folder: Path) -> None:
    def run(*extra):
        words = (sys.executable, "-m", "sgdr_jax", "eval", str(run_folder), "--tta-views", "0", *extra)
        return subprocess.run(words, capture_output=True, text=True)

    refused, accepted = run(), run("--experiment", str(place / "photos.py"))
    assert refused.returncode == 2 and "--experiment FILE" in refused.stderr
    assert accepted.returncode == 0 and "accuracy" in accepted.stdout
    shutil.copy(place / "photos.py", place / "moved.py")
    moved = run("--experiment", str(place / "moved.py"))
    lines, before = ([line for line in text.splitlines() if "evaluating" not in line] for text in (moved.stdout, accepted.stdout))
    assert moved.returncode == 0 and lines == before, "but for the seconds of the bar"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, fails: Fails) -> None:
    assert "config.json" in fails("eval", tmp_path)


def test_two_tables_have_two_files(place: Path, run_folder: Path, tmp_path: Path, fails: Fails) -> None:
    """The predictions took the place of the classes."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    for other in (tmp_path / "a.csv", tmp_path / "link.csv", f"{tmp_path}/../{tmp_path.name}/a.csv"):
        said = fails("eval", run_folder, "--out", tmp_path / "a.csv", "--classes", other)
        assert "--classes is" in said and "it is the file of --out too; give each another name" in said
    assert not (tmp_path / "a.csv").exists()
