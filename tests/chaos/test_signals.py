"""SIGTERM in every phase of a run: answered at once, with exit code 75, and the same command with --resume ends as if nothing had been."""

import os
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.cli.main import main
from sgdr_jax.core.console import Console
from sgdr_jax.core.errors import Preempted
from sgdr_jax.runs.folder import read

EXPERIMENT = """
from small import Small
from sgdr_jax import Eval, Experiment, Find, Sgdr, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import ImageFolder

experiment = Experiment(
    "signals", ImageFolder("photos", valid_fraction=0.25), Small(), batch_size=8, augment=side_on(zoom=1.1), refit=True,
    stages=(
        Stage("cached", size=16, train="head", lr=0.02, schedule=Sgdr(1), precompute=True, views=1),
        Stage("all", size=16, lr=Find(steps=8, start=1e-4, stop=1, lowest=0.02, epochs=3), schedule=Sgdr(1), recalibrate=True),
    ),
    evaluate=Eval(batch_size=8, tta_views=2),
)
"""
PHASES = ("decoding", "activations of train", "cached", "batch statistics", "find lr", "all", "evaluating valid")
SMALL = Path(__file__).parents[1] / "golden" / "runs" / "small.py"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "photos" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 128 + 127 * (i % 2), (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    shutil.copy(SMALL, tmp_path)
    (tmp_path / "exp.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def train(run: str, *words: str) -> int:
    try:
        main(["train", "exp.py", "--run", run, "--parallel.devices", "1", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def numbers(run: str) -> tuple:
    summary = read(run).summary
    return summary["valid"], summary["tta"], [stage["train_loss"] for stage in summary["stages"]], len(read(run).rows)


@pytest.mark.slow
def test_a_signal_in_any_phase_ends_the_run_at_once_and_it_goes_on(place, monkeypatch, tally):
    assert train("whole") == 0
    shutil.rmtree(place / "cache")
    bar, armed = Console.bar, []

    @contextmanager
    def signalling(self, title, total):
        with bar(self, title, total) as tick:

            def ticked(done, note=""):
                tick(done, note)
                if armed and title.startswith(armed[0]):
                    armed.clear()
                    os.kill(os.getpid(), signal.SIGTERM)

            yield ticked

    monkeypatch.setattr(Console, "bar", signalling)
    for i, phase in enumerate(PHASES):
        armed.append(phase)
        assert train(f"run{i}") == Preempted.code, phase
        assert not armed
        assert train(f"run{i}", "--resume") == 0
        assert numbers(f"run{i}") == numbers("whole"), phase
        tally("SIGTERM")["resumed"] += 1
        shutil.rmtree(place / "cache")


def test_a_signal_while_decoding_keeps_what_is_decoded(place, monkeypatch, capsys):
    from sgdr_jax.data import decode, image_cache

    attempt, seen = decode.attempt, []

    def slow(item, side, channels, resize):
        seen.append(time.monotonic())
        if len(seen) == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        return attempt(item, side, channels, resize)

    monkeypatch.setattr(decode, "attempt", slow)
    monkeypatch.setattr(image_cache, "_TELL_SECONDS", 0.0)
    assert train("run") == Preempted.code
    assert time.monotonic() - seen[11] < 5
    assert "stopped during: decoding images; the same command with --resume goes on" in capsys.readouterr().err
    assert 12 <= len(seen) < 40 and list((place / "cache").rglob("*.part"))
