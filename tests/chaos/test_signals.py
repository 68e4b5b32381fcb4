"""SIGTERM in every phase of a run: answered at once, with exit code 75, and the same command with --resume ends as if nothing had been."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import psutil
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
SWEEP = """
from sgdr_jax.sweeps import Sweep

sweep = Sweep("signals", experiment)
"""
PHASES = {
    "decoding": ("decoding", 0.0),
    "activations": ("activations of train", 0.0),
    "head": ("cached", 0.0),
    "statistics": ("batch statistics", 0.0),
    "finder": ("find lr", 0.0),
    "training": ("all", 0.0),
    "refit": ("all", 1.0),
    "evaluation": ("evaluating valid", 0.0),
    "TTA": ("evaluating valid", 0.6),
    "pictures": ("pictures", 0.0),
}
"""Title of the bar of each phase, and the share of it after which the signal arrives, at the earliest; 1 for the next bar of this title."""
SMALL = Path(__file__).parents[1] / "golden" / "runs" / "small.py"
SECONDS = 10.0


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "photos" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 128 + 127 * (i % 2), (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    shutil.copy(SMALL, tmp_path)
    (tmp_path / "exp.py").write_text(EXPERIMENT)
    (tmp_path / "sweep.py").write_text(EXPERIMENT + SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def command(*words: str) -> int:
    try:
        main([*words, "--parallel.devices", "1"])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def train(run: str, *words: str) -> int:
    return command("train", "exp.py", "--run", run, *words)


def sweep(run: str, *words: str) -> int:
    return command("sweep", "sweep.py", "--dir", run)  # which always goes on


def numbers(folder: Path) -> tuple:
    """What a run ends with; of a sweep, its only run."""
    (run,) = [file.parent for file in (*folder.glob("summary.json"), *folder.glob("runs/*/summary.json"))]
    summary = read(run).summary
    return summary["valid"], summary["tta"], [stage["train_loss"] for stage in summary["stages"]], len(read(run).rows)


class Signalling:
    """Sends this process a signal once a bar with a title has advanced so far."""

    def __init__(self, monkeypatch) -> None:
        self.title, self.share, self.number, self.sent = "", 0.0, signal.SIGTERM, 0.0
        bar = Console.bar

        @contextmanager
        def signalling(console, title, total):
            later, self.share = (title.startswith(self.title) and self.share == 1.0), self.share % 1.0
            seen = 0
            with bar(console, title, total) as tick:

                def ticked(done, note=""):
                    nonlocal seen
                    seen += done
                    if self.title and title.startswith(self.title) and not later and seen > self.share * total:
                        self.title, self.sent = "", time.monotonic()
                        os.kill(os.getpid(), self.number)
                    tick(done, note)

                yield ticked

        monkeypatch.setattr(Console, "bar", signalling)


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, sweep])
def test_a_signal_in_any_phase_ends_the_command_at_once_and_it_goes_on(run, place, monkeypatch, tally, cases):
    assert run("whole") == 0
    whole, signalling = numbers(place / "whole"), Signalling(monkeypatch)
    for phase, (title, share) in PHASES.items():
        for case in range(cases(1) if run is train or phase != "pictures" else 0):
            shutil.rmtree(place / "cache", ignore_errors=True)
            random, folder = Random(f"{phase} {case}"), f"{phase} {case}"
            signalling.title, signalling.share = title, share or random.uniform(0, 0.5) * (case > 0)
            signalling.number = random.choice((signal.SIGTERM, signal.SIGUSR1))
            assert run(folder) == Preempted.code and not signalling.title, phase
            seconds = time.monotonic() - signalling.sent
            assert seconds < SECONDS, phase
            assert run(folder, "--resume") == 0
            assert numbers(place / folder) == whole, phase
            tally(f"signals: {run.__name__}, {phase}")[f"resumed, at most {math.ceil(seconds)} s"] += 1


@contextmanager
def started(*words: str):
    """A command as a process of its own, whose descendants must have ended when the block ends."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path.cwd()}"}
    others = set(psutil.Process().children(recursive=True))  # what earlier tests of this process keep
    with Path("log").open("a") as log:
        process = subprocess.Popen([sys.executable, "-m", "sgdr_jax", *words], env=os.environ | flags, stdout=log, stderr=log)
    yield psutil.Process(process.pid), process
    below = set(psutil.Process().children(recursive=True)) - others
    assert not [other for other in below if other.status() != psutil.STATUS_ZOMBIE], Path("log").read_text()


STARTERS = {
    "sweep --workers 2": ("sweep", "sweep.py", "--workers", "2", "--pace", "0", "--dir"),
    "sweep -n 2": ("sweep", "sweep.py", "--processes", "2", "--pace", "0", "--dir"),
    "launch local -n 2": ("launch", "local", "exp.py", "-n", "2", "--run"),
}
MOMENTS = ("start", "images.json.gz", "finder-*.json", "checkpoints/stage-0*", "checkpoints/stage-1*")
"""Files of a run whose first sight is the moment of the signal. Processes that train together answer between two spans of updates, and
before a stage, its rates and its first update, so theirs leave out the checkpoint after which the finder and the largest program are
compiled."""


def seen_at(folder: str, moment: str) -> bool:
    """Whether a command, by then past Python's own start, has come to a moment of `MOMENTS`."""
    if moment == "start":
        return f"folder: {folder}" in Path("log").read_text() or f"folder {folder}" in Path("log").read_text()
    return any(file for pattern in (folder, f"{folder}/runs/*") for file in Path().glob(f"{pattern}/{moment}"))


@pytest.mark.slow
@pytest.mark.parametrize("starter", STARTERS)
def test_processes_that_are_started_hear_the_signal(starter, place, tally, cases):
    words = STARTERS[starter]
    with started(*words, "whole") as (_, process):
        assert process.wait(300) == 0, Path("log").read_text()
    for case in range(cases(2)):
        folder, random = f"case {case}", Random(f"{starter} {case}")
        moments = [moment for moment in MOMENTS if starter == "sweep --workers 2" or moment != "checkpoints/stage-0*"]
        number, moment = random.choice((signal.SIGTERM, signal.SIGUSR1)), moments[(case - 1) % len(moments)]
        with started(*words, folder) as (seen, process):
            while process.poll() is None and not seen_at(folder, moment):
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.5) * (moment == "start"))
            assert process.poll() is None, Path("log").read_text()
            began = time.monotonic()
            seen.send_signal(number)
            assert process.wait(60) == Preempted.code, Path("log").read_text()
            seconds = time.monotonic() - began
            assert seconds < SECONDS
        with started(*words, folder, *(("--resume",) * words[0].startswith("launch"))) as (_, process):
            assert process.wait(300) == 0, Path("log").read_text()
        assert numbers(place / folder) == numbers(place / "whole")
        tally(f"signals: {starter}, {moment}")[f"resumed, at most {math.ceil(seconds)} s"] += 1


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
