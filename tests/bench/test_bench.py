"""The benchmarks of networks run here, on a CPU and without PyTorch, and say what they could not measure."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_step", "inference"])
def test_networks_are_measured(name: str, tmp_path: Path) -> None:
    small = ["--models", "ResNet18", "--rounds", "2", "--size", "32", "--batch", "4", "--seconds", "0.1", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, str(BENCH / f"{name}.py"), *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no GPU here" in done.stdout and "PyTorch is not measured" in done.stdout
    rows = list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["ResNet18 ours"] * 2
    assert all(float(row["images_per_s"]) > 0 and float(row["first_s"]) > 0 and "32 px, batch 4, float32" in row["case"] for row in rows)
