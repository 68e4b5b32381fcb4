"""Workers as processes of this machine: what they are refused, and a sweep by two of them."""

import dataclasses
import json
import shutil

import pytest

from sgdr_jax.cli.commands import sweep
from sgdr_jax.cli.main import main
from sgdr_jax.datasets import Synthetic
from sgdr_jax.runs.folder import read_summary
from sgdr_jax.sweeps import LogUniform, Search, Sweep, local_workers, runner
from sgdr_jax.sweeps.analysis.sequential import added_runs
from sgdr_jax.sweeps.local_workers import run_workers
from sgdr_jax.sweeps.options import CompareOptions, WorkerOptions
from sgdr_jax.sweeps.run_status import save_failure
from sgdr_jax.sweeps.shared_queue import open_queue
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder
from sgdr_jax.sweeps.trial_records import read_added_runs, recorded_runs

from ..helpers import Said
from ..jobs.workers import BASE
from .analysis.three_arms import SKILL, SWEEP
from .results import fill_runs
from .test_shared_queue import ROOT, join

OPENED = dataclasses.replace(SWEEP, base=BASE)
"""Three arms with data that exist."""


@dataclasses.dataclass(frozen=True)
class Missing(Synthetic):
    """Data with a fault of its own, and a field that no dict takes for a key."""

    parts: list[str] = dataclasses.field(default_factory=list)

    def open(self):
        if self.parts:
            return super().open()
        raise KeyError("no such thing")


BROKEN = Sweep("broken", dataclasses.replace(BASE, data=Missing()))
HOT = Sweep("hot", BASE, search=Search({"stages.*.lr": LogUniform(1e28, 1e30)}, 2, "random", None))


def test_workers_that_are_refused_are_told_of(tmp_path):
    ui = Said()
    assert run_workers([{}, {}], ["models", "--nosuch", "1"], tmp_path / "logs", lambda: 0, 3, ui) == 2
    assert sum("has ended with code 2: error: " in line and "--nosuch" in line for line in ui.lines) == 2


def test_workers_have_gpus_of_their_own_or_share_their_memory(tmp_path, monkeypatch):
    """Each would have taken all of them, and three quarters of the memory."""
    monkeypatch.setattr(local_workers, "GPUS", tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", local_workers.MEMORY):
        monkeypatch.delenv(name, raising=False)
    assert local_workers.gpu_shares(3) == [{}] * 3
    for i in range(2):
        (tmp_path / f"0000:0{i}:00.0").mkdir()
    assert local_workers.gpu_shares(2) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    shares = [("0", "0.450"), ("1", "0.450"), ("0", "0.450")]
    assert [(own["CUDA_VISIBLE_DEVICES"], own[local_workers.MEMORY]) for own in local_workers.gpu_shares(3)] == shares
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8a")
    assert [own["CUDA_VISIBLE_DEVICES"] for own in local_workers.gpu_shares(2)] == ["3", "GPU-8a"]
    for name, value in (("JAX_PLATFORMS", "cpu"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
        assert local_workers.gpu_shares(2) == [{}, {}]


def test_workers_that_crash_or_leave_trials_are_no_success(tmp_path, monkeypatch, capsys):
    """A traceback ends with 1, as a run that failed does, and trials that were left counted as done: the command ended with 0."""
    ui = Said()
    file = tmp_path / "broken.py"
    file.write_text("from tests.sweeps.test_local_workers import BROKEN as sweep\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["sweep", str(file), "--dir", str(tmp_path / "a"), "--store", str(tmp_path / "a.journal")]
    assert run_workers([{}], words, tmp_path / "logs", lambda: 0, 1, ui) == 1
    assert any("worker 0 has ended with code 1: KeyError: 'no such thing'" in line for line in ui.lines)
    file.write_text("from tests.jobs.workers import SEARCHED as sweep\n")
    monkeypatch.setattr(sweep, "run_workers", lambda *_: 2)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--dir", str(tmp_path / "b"), "--workers", "2"])
    left = f"--workers is 2; 2 of them were lost, 2 runs and 6 trials are left; see {tmp_path / 'b' / 'workers'}\n"
    assert ended.value.code == 2 and capsys.readouterr().err.endswith(left)


def test_a_search_of_which_no_trial_has_finished_is_no_success(tmp_path, monkeypatch, capsys):
    file = tmp_path / "hot.py"
    file.write_text("from tests.sweeps.test_local_workers import HOT as sweep\n")
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--dir", str(tmp_path / "a")])
    assert ended.value.code == 1 and "no trial has finished: " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "7"), "--seed is 7; the seeds of all arms are 0, 1: change Sweep.seeds in the file"),
        (("--stages.0.lr", "0.3"), "stages[0].lr: 0.01 → 0.3: no run changes, since every arm sets this; change the axes in the file"),
    ],
)
def test_options_that_change_no_run_are_refused(tmp_path, capsys, words, message):
    file = tmp_path / "shared.py"
    file.write_text("from tests.jobs.workers import SWEEP as sweep\n")
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--dir", str(tmp_path / "a"), "--dry-run", *words])
    assert ended.value.code == 2 and message in capsys.readouterr().err


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
        (("--until", "0"), "--until is 0.0; use a number of a millionth or more, such as 0.5 for half a point"),
        (("--until", "1e-300"), "--until is 1e-300; use a number of a millionth or more"),
        (("--until", "1", "--alpha", "1e-300"), "--alpha is 1e-300; use a number from 0.000001 to below 1"),
        (("--measure", "loss"), "--measure is 'loss'; give --until too, which it is for, or leave it to compare"),
        (("--until", "1", "--baseline", "nosuch"), "--baseline is 'nosuch'; the arms are lr=0.01, lr=0.03, lr=1e+30"),
        (("--until", "1", "--baseline", "nosuch", "--workers", "2"), "--baseline is 'nosuch'; the arms are lr=0.01,"),
        (("--store", store), f"holds sweep shared of the folder {tmp_path / 'other'}; use another --store"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", str(file), "--dir", own, *words])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and message in error and error.count("\n") == 1, error
    assert not (tmp_path / "own" / "workers").exists() and not list(tmp_path.glob("own/runs/*"))


def test_groups_of_processes_take_searches_and_further_seeds(tmp_path, capsys):
    for name in ("SWEEP", "SEARCHED"):
        file = tmp_path / f"{name}.py"
        file.write_text(f"from tests.jobs.workers import {name} as sweep\n")
        main(["sweep", str(file), "--dir", str(tmp_path / name), "--processes", "2", "--until", "1", "--dry-run"])
    assert "trial" in capsys.readouterr().out


@pytest.mark.parametrize(("failed", "code"), [(False, 0), (True, 1)])
def test_runs_that_workers_have_added_are_in_table_and_exit_code(tmp_path, monkeypatch, capsys, failed, code):
    """The workers are stand-ins that do what those of `sweep --until` do: all runs, then the further seeds."""
    file, folder = tmp_path / "three.py", tmp_path / "sweep"
    file.write_text("from tests.sweeps.analysis.three_arms import SWEEP as sweep\n")

    def run_workers(environments, arguments, *_):
        assert "--until" in arguments and len(environments) == 2
        fill_runs(folder, expand(SWEEP), lambda run, _: SKILL[run.arm], n=400)
        further = added_runs(SWEEP, folder, CompareOptions(until=1.5))
        assert 2 < len(further) < 100
        fill_runs(folder, further[failed:], lambda run, _: SKILL[run.arm], n=400)
        if failed:
            save_failure(folder, further[0], RuntimeError("no luck"))
        return 0

    monkeypatch.setattr(sweep, "run_workers", run_workers)
    try:
        main(["sweep", str(file), "--dir", str(folder), "--workers", "2", "--until", "1.5"])
        ended = 0
    except SystemExit as end:
        ended = end.code
    said = capsys.readouterr().out
    assert ended == code and said.count("finished") == 18 + len(read_added_runs(folder)) - failed
    assert ("failed: RuntimeError: no luck" in said) == failed


def test_workers_try_again_what_has_failed(tmp_path, monkeypatch, capsys):
    """The worker is this process, with stand-ins for runs."""
    file, folder = tmp_path / "three.py", tmp_path / "sweep"
    file.write_text("from tests.sweeps.test_local_workers import OPENED as sweep\n")
    skill, executed = (lambda run, _: SKILL[run.arm]), []

    def run(experiment, own, **_):
        (one,) = [r for r in (*expand(OPENED), *recorded_runs(OPENED, folder)) if run_folder(folder, r.hash) == own]
        executed.append(one.hash)
        fill_runs(folder, [one], skill, n=400)
        return read_summary(own)

    def run_workers(environments, arguments, *_):
        runner.work(OPENED, folder, WorkerOptions(until=1.5, store=arguments[arguments.index("--store") + 1]))
        return 0

    monkeypatch.setattr(sweep, "run_workers", run_workers)
    monkeypatch.setattr(runner.recipe, "run", run)
    words = ["sweep", str(file), "--dir", str(folder), "--workers", "2", "--until", "1.5"]
    main(words)
    failed = expand(OPENED)[4], recorded_runs(OPENED, folder)[-1]
    with open_queue(str(folder / "store.journal"), folder, OPENED.name, ()).alive() as queue:
        for one in failed:
            shutil.rmtree(run_folder(folder, one.hash))
            queue.fill([one], lost=[one.hash])
            queue.fail(queue.take([one]), save_failure(folder, one, RuntimeError("no luck")))
    with pytest.raises(SystemExit, match="1"):
        main(words)
    assert capsys.readouterr().out.count("no luck") == 2 and [executed.count(one.hash) for one in failed] == [1, 1]
    main([*words, "--retry"])
    assert [executed.count(one.hash) for one in failed] == [2, 2]


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
