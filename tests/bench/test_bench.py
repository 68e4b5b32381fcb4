"""The benchmarks of networks run here, on a CPU and without PyTorch, and say what they could not measure."""

import csv
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """What the benchmarks share, imported as they import it."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("harness")
    sys.modules.pop("harness", None)


def test_rows_of_a_new_kind_leave_the_older_ones_whole(harness: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results" / "some.csv"
    harness.add_rows(path, [harness.facts() | {"seed": 0, "seconds": 1 / 3}])
    harness.add_rows(path, [harness.facts() | {"seed": 1, "versions": harness.versions("jax", "numpy")}])
    old, new = csv.DictReader(path.read_text().splitlines())
    assert (old["seed"], old["seconds"], old["versions"]) == ("0", "0.333333", "")
    assert (new["seed"], new["seconds"]) == ("1", "") and new["versions"].startswith("jax ") and ", numpy " in new["versions"]
    assert old["machine"] == new["machine"] != ""


@pytest.mark.parametrize("path", sorted((BENCH / "results").glob("*.csv")), ids=lambda path: path.stem)
def test_a_result_tells_its_day_machine_and_versions(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert {"date", "machine", "versions"} <= set(lines[0].split(","))
    assert {len(row) for row in csv.reader(lines)} == {lines[0].count(",") + 1}


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
