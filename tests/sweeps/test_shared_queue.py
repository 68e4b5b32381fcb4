"""The store of a sweep: each run is taken once, whoever dies; results are those of a single worker."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax import InputError
from sgdr_jax.distributed.heartbeat import PeerMonitor
from sgdr_jax.runs.folder import read
from sgdr_jax.sweeps.run_status import forget_failures, read_status, save_failure
from sgdr_jax.sweeps.shared_queue import SharedQueue, open_queue
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder, save_sweep

from ..jobs.workers import SWEEP

RUNS = expand(SWEEP)
ROOT = Path(__file__).parents[2]
KINDS = ("store.db", "store.journal")


def join(folder, kind="store.db", **how) -> SharedQueue:
    """A worker's door; a store for each call, as another process would have."""
    save_sweep(folder, SWEEP, RUNS)
    return open_queue(str(folder / kind), folder, SWEEP.name, RUNS, **how)


def take(queue, runs, most) -> list:
    """Up to `most` runs that are free."""
    return [run for _ in range(most) if (run := queue.take(runs))]


def wait(queue, runs) -> bool:
    """Wait as a worker does, until one of these runs is free; False once all are done."""
    while queue.left(runs):
        if queue._free:
            return True
        time.sleep(queue.pause)
    return False


def leave_results(folder, run) -> None:
    """What a finished run leaves."""
    own = run_folder(folder, run.hash)
    own.mkdir(parents=True)
    (own / "summary.json").write_text('{"seconds": 1.0}')


@pytest.mark.parametrize("kind", KINDS)
def test_each_run_is_taken_by_one_worker(tmp_path, kind):
    first, second = join(tmp_path, kind), join(tmp_path, kind)
    own, others = take(first, RUNS, 2), take(second, RUNS, 3)
    assert [r.number for r in own] == [0, 1] and {r.number for r in others} < {2, 3, 4, 5} and len(others) == 3
    own += take(first, RUNS, 9)
    assert {r.number for r in (*own, *others)} == set(range(6)) and len(own) == 3 and take(second, RUNS, 9) == []
    failed = others.pop()
    for store, runs in ((first, own), (second, others)):
        for run in runs:
            leave_results(tmp_path, run)
            store.finish(run, 0.5)
    save_failure(tmp_path, failed, ValueError("too hot"))
    second.fail(failed, "too hot")
    assert not wait(first, RUNS) and not wait(second, RUNS)
    assert take(join(tmp_path, kind), RUNS, 9) == []
    again = join(tmp_path, kind, retry=True)
    assert take(again, RUNS, 9) == [failed]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_failure_was_deleted_is_executed_again(tmp_path, kind):
    first = join(tmp_path, kind)
    (run, other) = take(first, RUNS, 2)
    for each in (run, other):
        save_failure(tmp_path, each, ValueError("too hot"))
        first.fail(each, "too hot")
    forget_failures(tmp_path, [run])
    assert [r.number for r in take(join(tmp_path, kind), RUNS[:2], 2)] == [run.number]


def test_a_run_that_fails_after_its_worker_was_given_up_ends_no_other(tmp_path):
    slow, heir = join(tmp_path, grace=0.2), join(tmp_path, grace=0.2)
    (run,) = take(slow, RUNS, 1)
    while not take(heir, [run], 1):
        heir.left([run])
        time.sleep(0.05)
    slow.fail(run, "too hot")


@pytest.mark.parametrize("kind", KINDS)
def test_many_workers_at_once_take_each_run_once(tmp_path, kind):
    doors, taken, barrier = [join(tmp_path, kind) for _ in range(6)], [], threading.Barrier(6)

    def worker(store):
        barrier.wait()
        while run := store.take(RUNS):
            taken.append(run.number)

    threads = [threading.Thread(target=worker, args=(store,)) for store in doors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_a_worker_that_has_gone_are_taken_over_and_those_of_a_living_one_are_not(tmp_path, kind):
    gone, living, heir = (join(tmp_path, kind, grace=4) for _ in range(3))  # long enough for a busy machine
    take(gone, RUNS, 2)
    with living.alive():
        others = take(living, RUNS, 2)
        rest = [run for run in RUNS[2:] if run not in others]
        assert wait(heir, RUNS) and take(heir, RUNS, 9) == rest
        began = time.monotonic()
        assert wait(heir, RUNS) and time.monotonic() - began > 3.5
        assert [r.number for r in take(heir, RUNS, 9)] == [0, 1] and take(living, RUNS, 9) == []
        gone.finish(RUNS[0], 0.5)  # it was only stuck: too late, and no harm
        for run in (*RUNS[:2], *rest):
            heir.finish(run, 0.5)
        waits = threading.Timer(1.5, lambda: [living.finish(run, 0.5) for run in others])
        waits.start()
        assert not wait(heir, RUNS)  # waits for the living worker's, and does not take them
        waits.join()


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_between_a_try_and_its_workers_name_takes_no_run_away(tmp_path, kind, monkeypatch):
    """However often another worker looks at that moment; a try whose worker dies there is free after the grace period."""
    busy, other, now, looks = join(tmp_path, kind), join(tmp_path, kind), [0.0], []
    other._monitor, write = PeerMonitor(lambda: now[0]), busy.storage.set_trial_user_attr

    def late(trial, name, value):
        busy._beat(len(looks))
        looks.append(other.left(RUNS))
        now[0] += 100
        if len(looks) == 4:
            raise KeyboardInterrupt
        write(trial, name, value)

    monkeypatch.setattr(busy.storage, "set_trial_user_attr", late)
    assert len(take(busy, RUNS, 3)) == 3
    with pytest.raises(KeyboardInterrupt):
        busy.take(RUNS)
    busy._beat(9)
    assert other.left(RUNS) and {run.number for run in take(other, RUNS, 9)} == {3, 4, 5}


def test_a_worker_that_was_given_up_before_it_wrote_its_name_takes_another_run(tmp_path, monkeypatch):
    slow, heir, taken = join(tmp_path), join(tmp_path), []
    now, write = [0.0], slow.storage.set_trial_user_attr
    heir._monitor = PeerMonitor(lambda: now[0])

    def very_late(trial, name, value):
        while not taken:
            heir.left(RUNS)
            now[0] += 100
            taken.extend(take(heir, RUNS[:1], 1))
        write(trial, name, value)

    monkeypatch.setattr(slow.storage, "set_trial_user_attr", very_late)
    assert slow.take(RUNS) in RUNS[1:] and taken == [RUNS[0]]


def test_a_worker_whose_process_ended_beside_others_has_gone_at_once(tmp_path):
    first, second = join(tmp_path), join(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    node, mine, place, own = first.worker.split()
    assert int(mine) == os.getpid()
    dead, elsewhere = f"{node} {ended.pid} {place} {own}", f"{node} {ended.pid} 0000 {own}"
    assert second.dead({first.worker, dead, elsewhere, "an older one"}) == {dead}
    first.worker = dead
    take(first, RUNS, 6)
    assert wait(second, RUNS) and len(take(second, RUNS, 9)) == 6


def test_two_runs_of_one_hash_are_one_run_to_the_queue_whoever_takes_it(tmp_path):
    first, second = join(tmp_path), join(tmp_path)
    twice = [*RUNS[:1], *RUNS[:1]]
    assert first.take(twice) == RUNS[0] and first.take(twice) is None and second.take(twice) is None


def test_what_a_worker_holds_when_it_ends_is_free_again_at_once(tmp_path):
    first, second = join(tmp_path), join(tmp_path)
    with pytest.raises(KeyboardInterrupt), first.alive():
        take(first, RUNS, 6)
        first.give_back(RUNS[5])
        raise KeyboardInterrupt
    assert wait(second, RUNS) and len(take(second, RUNS, 9)) == 6


def test_a_retried_run_whose_worker_dies_is_taken_over_too(tmp_path):
    first = join(tmp_path)
    take(first, RUNS, 6)
    first.fail(RUNS[0], "no luck")
    second = join(tmp_path, retry=True, grace=0.2)
    assert [r.number for r in take(second, RUNS, 1)] == [0]
    third = join(tmp_path, grace=0.2)
    assert take(third, RUNS, 9) == [] and wait(third, RUNS) and RUNS[0] in take(third, RUNS, 9)


def test_a_worker_waits_for_none_but_its_own_runs(tmp_path):
    first, second = join(tmp_path), join(tmp_path)
    take(first, RUNS, 3)
    for run in take(second, RUNS[3:], 3):
        second.finish(run, 0.5)
    assert not wait(second, RUNS[3:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_whose_results_are_deleted_is_executed_again(tmp_path, kind):
    first = join(tmp_path, kind)
    for run in take(first, RUNS, 6):
        leave_results(tmp_path, run)
        first.finish(run, 0.5)
    (run_folder(tmp_path, RUNS[2].hash) / "summary.json").unlink()
    second, third = join(tmp_path, kind), join(tmp_path, kind)
    assert take(second, RUNS, 9) == [RUNS[2]] and take(third, RUNS, 9) == []
    second.finish(RUNS[2], 0.5)
    assert not wait(second, RUNS) and not wait(third, RUNS)


def test_a_run_that_finishes_while_another_worker_joins_is_not_taken_for_lost(tmp_path, monkeypatch):
    first = join(tmp_path)
    (run,) = take(first, RUNS, 1)

    def reading(folder, key):
        """Read a run's status just before it finishes."""
        found = read_status(folder, key)
        if key == run.hash in first._taken:
            leave_results(tmp_path, run)
            first.finish(run, 0.5)
        return found

    monkeypatch.setattr("sgdr_jax.sweeps.shared_queue.read_status", reading)
    second = join(tmp_path)
    if run.hash in first._taken:  # it was not looked at, since it was not complete
        leave_results(tmp_path, run)
        first.finish(run, 0.5)
    assert [trial.state.name for trial in second._tries()[run.hash]] == ["COMPLETE"]


def test_bad_stores_are_refused_in_one_line(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    join(tmp_path / "a")
    store = str(tmp_path / "a" / "store.db")
    save_sweep(tmp_path / "b", SWEEP, RUNS)
    before = (tmp_path / "a" / "store.db").read_bytes()
    for where, message in (
        (store, f"--store {store} holds sweep shared of the folder {tmp_path / 'a'}; use another --store"),
        (str(tmp_path / "none" / "x.db"), "cannot be used: .*unable to open database file"),
        ("nosuch://me:secret@host/base", r"--store nosuch://me:\*\*\*@host/base cannot be used"),
        (str(tmp_path / "text.db"), "cannot be used: .*not a database"),
    ):
        (tmp_path / "text.db").write_text("no database at all, but a text of some length" * 30)
        with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
            open_queue(where, tmp_path / "b", SWEEP.name, RUNS)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "a" / "store.db").read_bytes() == before
    with pytest.raises(InputError, match="--grace is 0"):
        join(tmp_path / "a", grace=0)


def test_without_optuna_a_sweep_with_a_store_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"needs Optuna; pip install 'sgdr_jax\[sweep\]'"):
        join(tmp_path)


# ---- processes ----


def start(folder: Path, store: str, log: Path, *more: str) -> subprocess.Popen:
    own = log.parent / "cache"  # a worker that is killed may leave half a program there
    cache = {"XDG_CACHE_HOME": str(own), "JAX_COMPILATION_CACHE_DIR": str(own / "compiled"), "JAX_PLATFORMS": "cpu"}
    with log.open("w") as file:
        words = (sys.executable, "-m", "tests.jobs.workers", str(folder), store, "3", *more)
        return subprocess.Popen(words, cwd=ROOT, env=os.environ | cache, stdout=file, stderr=subprocess.STDOUT)


STATES = "states finished finished finished finished failed failed"


def ended(worker: subprocess.Popen, log: Path) -> None:
    assert worker.wait(400) == 0 and log.read_text().splitlines()[-1] == STATES, log.read_text()


def kill_one(folder: Path, workers: list[subprocess.Popen]) -> tuple[int, Path]:
    """Kills the worker that has written the first checkpoint of a second stage, within its run; gives its process and the run's folder."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and any(worker.poll() is None for worker in workers):
        time.sleep(0.01)
        for checkpoint in folder.glob("runs/*/checkpoints/stage-1-step-*"):
            run = checkpoint.parents[1]
            pid = int(read(run).start["process"].split()[1])
            if not (run / "summary.json").exists():
                os.kill(pid, signal.SIGKILL)
                assert not (run / "summary.json").exists() and pid in [worker.pid for worker in workers]
                return pid, run
    raise AssertionError("no worker has come so far; their logs lie beside " + str(folder))


def one_killed(tmp_path: Path, store: str) -> None:
    """Two workers, one killed between two checkpoints of a run; every run ends once, with the numbers of a single worker."""
    alone, folder = start(tmp_path / "alone", str(tmp_path / "alone.db"), tmp_path / "alone.log"), tmp_path / "sweep"
    ended(alone, tmp_path / "alone.log")
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    workers = [start(folder, store, log) for log in logs]
    victim, killed = kill_one(folder, workers)
    for worker, log in zip(workers, logs, strict=True):
        if worker.pid == victim:
            assert worker.wait() == -signal.SIGKILL
        else:
            ended(worker, log)
    for wanted in RUNS[:4]:
        ours, theirs = (read(run_folder(tmp_path / name, wanted.hash)) for name in ("sweep", "alone"))
        keys, others = ([(row["kind"], row["stage"], row["step"]) for row in run.rows] for run in (ours, theirs))
        assert len(set(keys)) == len(keys) and keys == others
        np.testing.assert_allclose([row["loss"] for row in ours.rows], [row["loss"] for row in theirs.rows], rtol=1e-5)
        assert ours.summary["test"]["accuracy"] == theirs.summary["test"]["accuracy"]
        starts = json.loads((ours.path / "environment.json").read_text())["starts"]
        assert len(starts) == 1 + (ours.path == killed)
    with open_queue(store, folder, SWEEP.name, RUNS).alive() as look:
        tries = {key: [trial.state.name for trial in trials] for key, trials in look._tries().items()}
    assert tries == {r.hash: ["FAIL"] if r.number > 3 else ["FAIL"] * (killed.name == r.hash) + ["COMPLETE"] for r in RUNS}


@pytest.mark.slow
def test_one_of_two_workers_on_sqlite_is_killed(tmp_path):
    one_killed(tmp_path, str(tmp_path / "shared.db"))
