"""Workers as processes of this machine: what they are refused, and a sweep by two of them."""

import json

import pytest

from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.sweeps.local_workers import run_workers

from .test_shared_queue import ROOT, join


class Told(NullConsole):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(str(text))


def test_workers_that_are_refused_are_told_of(tmp_path):
    ui = Told()
    assert run_workers([{}, {}], ["models", "--nosuch", "1"], tmp_path / "logs", lambda: 0, 3, ui) == 2
    assert sum("has ended with code 2: error: " in line and "--nosuch" in line for line in ui.lines) == 2


def test_the_command_refuses_before_any_worker_starts(tmp_path, monkeypatch, capsys):
    file = tmp_path / "shared.py"
    file.write_text("from tests.jobs.workers import SWEEP as sweep\n")
    (tmp_path / "other").mkdir()
    join(tmp_path / "other")
    store, own = str(tmp_path / "other" / "store.db"), str(tmp_path / "own")
    for words, message in (
        (("--workers", "0"), "--workers is 0; use 1 or more"),
        (("--grace", "0"), "--grace is 0.0; use a number of seconds above 0"),
        (("--pace", "-1"), "--pace is -1.0; use a number of seconds, or 0 for every cycle's end"),
        (("--workers", "2", "--only", "9"), "--only is 9; the runs are 0…5"),
        (("--workers", "2", "--store", store), f"holds sweep shared of the folder {tmp_path / 'other'}; use another --store"),
        (("--store", store), f"holds sweep shared of the folder {tmp_path / 'other'}; use another --store"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", str(file), "--dir", own, *words])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and message in error and error.count("\n") == 1, error
    assert not (tmp_path / "own" / "workers").exists() and not list(tmp_path.glob("own/runs/*"))


@pytest.mark.slow
def test_the_command_with_two_workers(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, folder = tmp_path / "shared.py", tmp_path / "sweep"
    file.write_text("from tests.jobs.workers import SWEEP as sweep\n")
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--dir", str(folder), "--workers", "2", "--nosuch", "1"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--dir", str(folder), "--workers", "2"])
    said = capsys.readouterr().out
    assert ended.value.code == 1 and "2 workers; output" in said and said.count("finished") == 4 and said.count("failed") >= 2
    starts = [json.loads(path.read_text())["starts"] for path in folder.glob("runs/*/environment.json")]
    assert len(starts) == 6 and all(len(found) == 1 for found in starts)
