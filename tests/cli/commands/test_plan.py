"""`sgdr-jax plan`: stages, updates as CSV."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from sgdr_jax.cli.main import main


def test_plan_prints_the_stages_and_writes_every_update(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "plan.csv"
    main(["plan", str(place / "photos.py"), "--data.root", str(place / "data"), "--csv", str(file), "--stages.2.lr", "1e-3", "1e-2", "0.1"])
    said = capsys.readouterr().out
    assert "cached head" in said and "30 training images, batches of 8" in said
    first = next(row for row in csv.DictReader(file.read_text().splitlines()) if row["stage"] == "all")
    assert [float(first[f"lr_{g}"]) for g in ("early", "late", "head")] == pytest.approx([1e-3, 1e-2, 0.1])


def test_plan_tells_of_a_refit(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, told in (("--refit", True), ("--no-refit", False)):
        main(["plan", str(place / "photos.py"), "--train-size", "100", word])
        assert ("refit: the stages that are kept once more" in capsys.readouterr().out) == told


def test_plan_runs_without_jax(place: Path) -> None:
    code = "import sys; from sgdr_jax.cli.main import main; main(sys.argv[1:]); assert not {'jax', 'flax'} & set(sys.modules)"
    argv = (sys.executable, "-c", code, "plan", str(place / "photos.py"), "--train-size", "100")
    subprocess.run(argv, check=True, capture_output=True)


def test_without_the_images_plan_says_how_it_needs_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["plan", str(place / "photos.py"), "--data.root", str(place / "nowhere")])
    error = capsys.readouterr().err
    assert left.value.code == 2 and "there is no such folder" in error and error.endswith("--train-size N\n") and error.count("\n") == 1
