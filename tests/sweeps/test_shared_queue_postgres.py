"""The store of a sweep in a real PostgreSQL: `make test-postgres`."""

import threading

import pytest

from sgdr_jax import InputError
from sgdr_jax.sweeps.shared_queue import open_queue
from sgdr_jax.sweeps.sweep_record import save_sweep

from . import postgres
from .test_shared_queue import RUNS, SWEEP, one_killed

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def url():
    with postgres.server() as address:
        yield address


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


def test_one_of_two_workers_is_killed(tmp_path, url):
    one_killed(tmp_path, url)
    for path in (tmp_path / "sweep").rglob("*.json"):
        assert postgres.PASSWORD not in path.read_text()
    for log in tmp_path.glob("*.log"):
        assert postgres.PASSWORD not in log.read_text()
