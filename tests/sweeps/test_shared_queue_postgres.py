"""The store of a sweep in a real PostgreSQL, and behind Optuna's gRPC proxy: `make test-postgres`."""

import collections
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from sgdr_jax import InputError
from sgdr_jax.cli.launch.local import free_port
from sgdr_jax.sweeps.shared_queue import open_queue
from sgdr_jax.sweeps.sweep_record import save_sweep
from sgdr_jax.sweeps.trial_records import read_trials

from ..jobs import many_workers
from . import postgres
from .test_shared_queue import RUNS, SWEEP, one_killed

pytestmark = pytest.mark.postgres


@pytest.fixture
def url():
    """An empty database for each test: a store keeps the folder of a sweep's name, and refuses another."""
    with postgres.server() as address:
        yield address


PROXY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from optuna.storages import get_storage, run_grpc_proxy_server

run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), thread_pool=ThreadPoolExecutor(32))
"""
"""As the guide has it."""


@contextmanager
def proxy(url: str) -> Iterator[str]:
    """Run Optuna's proxy in front of a database; yields the store's address."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROXY, url, str(port)])
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_two_hundred_workers_on_the_proxy_lose_and_double_nothing(tmp_path, url):
    save_sweep(tmp_path, many_workers.SWEEP, many_workers.RUNS)
    (tmp_path / "done").mkdir()
    with proxy(url) as store:
        words = [sys.executable, "-m", "tests.jobs.many_workers", str(tmp_path), store, "50", "200"]
        root = Path(__file__).parents[2]
        processes = [subprocess.Popen(words, cwd=root, env=os.environ | {"JAX_PLATFORMS": "cpu"}) for _ in range(4)]
        try:
            assert [process.wait(550) for process in processes] == [0, 0, 0, 0]
        finally:
            for process in processes:
                process.kill()
        with open_queue(store, tmp_path, many_workers.SWEEP.name, many_workers.RUNS).alive() as look:
            tries = look._tries()
            study = look.storage.get_study_id_from_name(f"{many_workers.SWEEP.name} search")
            numbers = collections.Counter(trial.user_attrs["trial"] for trial in look.storage.get_all_trials(study))
    runs = {run.hash for run in many_workers.RUNS}
    assert tries.keys() == runs and all([trial.state.name for trial in trials] == ["COMPLETE"] for trials in tries.values())
    trials = read_trials(tmp_path, "accuracy")
    assert numbers == dict.fromkeys(range(200), 1) and [trial.number for trial in trials] == list(range(200))
    done = sorted(file.name for file in (tmp_path / "done").iterdir())
    assert done == sorted([*runs, *(trial.hash for trial in trials)]) and len(done) == 600
    workers = {trial.user_attrs["worker"] for trials in tries.values() for trial in trials}
    assert len(workers) == 200  # each has taken a run, all at once


def test_a_proxy_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sgdr_jax.sweeps.optuna_storage.PROXY_SECONDS", 1)
    save_sweep(tmp_path, SWEEP, RUNS)
    with pytest.raises(
        InputError, match=r"--store grpc://127.0.0.1:\d+ cannot be used: no proxy answers there within 1 s; start"
    ) as caught:
        open_queue(f"grpc://127.0.0.1:{free_port()}", tmp_path, "nobody", RUNS)
    assert "\n" not in str(caught.value)


def test_many_workers_at_once_take_each_run_once(tmp_path, url):
    save_sweep(tmp_path, SWEEP, RUNS)
    taken, errors, barrier = [], [], threading.Barrier(6)

    def worker():
        try:
            with open_queue(url, tmp_path, "at once", RUNS).alive() as store:
                barrier.wait()
                while run := store.take(RUNS):
                    taken.append(run.number)
                    store.finish(run, 0.5)
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and sorted(taken) == [0, 1, 2, 3, 4, 5]


def test_a_wrong_password_is_one_line_without_it(tmp_path, url):
    save_sweep(tmp_path, SWEEP, RUNS)
    with pytest.raises(
        InputError, match=r"--store postgresql://tester:\*\*\*@127.0.0.1:.* cannot be used: .*authentication failed"
    ) as caught:
        open_queue(url.replace(postgres.PASSWORD, "another"), tmp_path, "refused", RUNS)
    assert "\n" not in str(caught.value) and "another" not in str(caught.value)


@pytest.mark.parametrize("through", ["directly", "by the proxy"])
def test_one_of_two_workers_is_killed(tmp_path, url, through):
    with proxy(url) if through == "by the proxy" else nullcontext(url) as store:
        one_killed(tmp_path, store)
    for path in (tmp_path / "sweep").rglob("*.json"):
        assert postgres.PASSWORD not in path.read_text()
    for log in tmp_path.glob("*.log"):
        assert postgres.PASSWORD not in log.read_text()
