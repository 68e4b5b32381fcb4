"""JSON files of a kept run and sweep, each with one change: read, or refused in one line; never a traceback."""

import shutil
import tarfile
from pathlib import Path
from random import Random

import pytest

from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.core.errors import InputError
from sgdr_jax.report.run_plots import plot_run
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.sweeps.analysis.compare import compare_arms
from tests.chaos import mutations
from tests.chaos.campaign import cli

GOLDEN = Path(__file__).parents[1] / "golden" / "runs"


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(GOLDEN / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    shutil.copy(GOLDEN / "small.py", folder)
    load_experiment(folder / "small.py")
    return folder


def resume(kept: Path) -> None:
    cli("train", str(kept / "small.py"), "--run", str(kept / "run"), "--resume", "--parallel.devices", "1", "--checkpoint-steps", "3")


READERS = {
    "run/config.json": (resume, lambda kept: open_predictor(kept / "run")),
    "run/summary.json": (resume, lambda kept: open_predictor(kept / "run")),
    "run/environment.json": (resume, lambda kept: open_predictor(kept / "run")),
    "run/metrics.jsonl": (lambda kept: plot_run(kept / "run"),),
    "run/finder-*.json": (lambda kept: plot_run(kept / "run"),),
    "sweep/sweep.json": (lambda kept: compare_arms(kept / "sweep"),),
    "sweep/trials/*.json": (lambda kept: cli("sweep", str(kept / "small.py"), "--dir", str(kept / "sweep"), "--dry-run"),),
    "sweep/runs/*/summary.json": (lambda kept: compare_arms(kept / "sweep"),),
    "sweep/runs/*/environment.json": (lambda kept: compare_arms(kept / "sweep"),),
}


@pytest.mark.parametrize("pattern", READERS)
def test_changed_files_are_read_or_refused_in_one_line(pattern, kept, cases, tally, monkeypatch):
    monkeypatch.chdir(kept)
    files = sorted(kept.glob(pattern))
    for seed in range(cases(4)):
        random = Random(f"{pattern} {seed}")
        file, reader = random.choice(files), random.choice(READERS[pattern])
        whole = file.read_bytes()
        lines = whole.split(b"\n") if file.suffix == ".jsonl" else [whole]
        at = random.randrange(max(len(lines) - 1, 1))
        lines[at] = mutations.json_text(lines[at], random)
        file.write_bytes(b"\n".join(lines))
        print(f"{pattern}, seed {seed}: {lines[at][:200]!r}")  # shown where the test fails
        try:
            reader(kept)
            tally(pattern)["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            tally(pattern)["refused"] += 1
        finally:
            file.write_bytes(whole)
