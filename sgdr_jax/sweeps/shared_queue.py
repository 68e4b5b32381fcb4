"""The store of a sweep: which of its runs are free, taken and done, for workers in any number of processes and hosts. Optuna keeps it.

A sweep is a study of its name; each try of a run is a trial: waiting, running, complete (its value is the validation accuracy), or failed,
with the attribute `error` where the run itself failed, without it where its worker has gone. Of several open tries of a run the oldest
counts. A try passes from one state to the next in one transaction, so that no two workers get the same one.

A worker counts up a number of its own (an attribute of the study) while it lives. Others who see it stand still for `grace` seconds of
their own clock take the worker for dead: clocks of hosts need not agree, and every kind of store can do it. One whose process ran beside
theirs and has ended is dead at once. Its runs become free again and go on from their checkpoints. Was it only stuck, then its lock on the
run folder keeps the others out (see `logbook`).

Run folders are the results; a store holds only who does what. Workers share both.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from ..core.errors import InputError, without_password
from ..core.machine import file_system, process_exists
from ..core.validation import require
from ..distributed.heartbeat import PeerMonitor, repeating
from .spec import SweepRun

_log = logging.getLogger(__name__)


def address(where: str) -> str:
    """What a store is opened by: a database URL as it is, a path that ends in .journal or .log as that of a journal, others of SQLite's.

    >>> address("runs/a.db"), address("a.journal")
    ('sqlite:///runs/a.db', 'a.journal')
    """
    return where if "://" in where or where.endswith((".journal", ".log")) else f"sqlite:///{where}"


class SharedQueue:
    """One worker's door to the store of a sweep. Made by `opened`.

    Attributes:
        worker: this worker's name.
        storage: Optuna's.
    """

    def __init__(self, storage: Any, study: int, folder: Path, grace: float) -> None:
        self.worker = f"{platform.node()} {os.getpid()} {_surroundings()} {secrets.token_hex(3)}"
        self.storage, self._study, self._folder, self._grace = storage, study, folder, grace
        self._free: dict[str, int] = {}  # hash of a run to its open try, as far as is known
        self._held: dict[str, int] = {}
        self._monitor = PeerMonitor()
        self._busy = False

    # ---- what a worker does ----

    def take(self, runs: Sequence[SweepRun], most: int) -> list[SweepRun]:
        """Takes up to `most` of these runs that are free, in order."""
        taken: list[SweepRun] = []
        for run in runs:
            if len(taken) == most:
                break
            if run.hash in self._free and self._claim(trial := self._free.pop(run.hash)):
                self._held[run.hash] = trial
                taken.append(run)
        return taken

    def finish(self, run: SweepRun, value: float) -> None:
        """A run that this worker has taken is done; `value` is its validation accuracy."""
        self._end(run, "COMPLETE", [value])

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """A run that this worker has taken has failed, and is not to be tried again."""
        self.storage.set_trial_user_attr(self._held[run.hash], "error", error[:1000])
        self._end(run, "FAIL")

    def give_back(self, run: SweepRun) -> None:
        """Another process has the run's folder: the run is for whoever comes later."""
        self._busy = True
        self._end(run, "FAIL")

    def left(self, runs: Sequence[SweepRun]) -> bool:
        """Waits until some of these runs are free, then gives True; False when all are done. Frees runs whose workers have gone."""
        if self._busy:
            time.sleep(self.pause)
            self._busy = False
        while True:
            running = [t for trials in self._tries().values() for t in trials if t.state.name == "RUNNING"]
            gone = self.gone({t.user_attrs.get("worker", "") for t in running} - {self.worker})
            for trial in running:
                if (worker := trial.user_attrs.get("worker", "")) in gone:
                    _log.warning("the worker %s of run %s has gone", worker, trial.user_attrs["number"])
                    self._set(trial._trial_id, "FAIL")
            self.fill(runs)
            if self._free:
                return True
            tries = self._tries()
            if not any(trial.state.name == "RUNNING" for run in runs for trial in tries.get(run.hash, ())):
                return False
            time.sleep(self.pause)

    @property
    def pause(self) -> float:
        """Seconds between two looks at what others do."""
        return min(self._grace / 4, 5.0)

    # ---- tries ----

    def fill(self, runs: Sequence[SweepRun], retry: bool = False) -> None:
        """Makes every run free that has no try which is open or done; one that has failed only with `retry`."""
        import optuna

        wanted = {run.hash: run for run in runs}
        with locked(self._folder):
            tries = self._tries()
            for key, run in wanted.items():
                old = tries.get(key, [])
                states = {trial.state.name for trial in old}
                failed = bool(old) and "error" in old[-1].user_attrs and not retry
                if not states & {"WAITING", "RUNNING", "COMPLETE"} and not failed:
                    facts = {"run": key, "number": run.number, "arm": run.arm, "seed": run.seed}
                    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs=facts)
                    self.storage.create_new_trial(self._study, trial)
        self._free = {}
        for key, trials in self._tries().items():
            oldest = next((trial for trial in trials if not trial.state.is_finished()), None)
            done = any(trial.state.name == "COMPLETE" for trial in trials)
            if key in wanted and oldest and oldest.state.name == "WAITING" and not done:
                self._free[key] = oldest._trial_id

    def _tries(self) -> dict[str, list[Any]]:
        """Hash of each run to its tries, oldest first."""
        found: dict[str, list[Any]] = {}
        for trial in sorted(self.storage.get_all_trials(self._study, deepcopy=False), key=lambda trial: trial.number):
            if "run" in trial.user_attrs:
                found.setdefault(trial.user_attrs["run"], []).append(trial)
        return found

    def _claim(self, trial: int) -> bool:
        if not self._set(trial, "RUNNING"):
            return False
        self.storage.set_trial_user_attr(trial, "worker", self.worker)
        return True

    def _end(self, run: SweepRun, state: str, values: Sequence[float] | None = None) -> None:
        self._set(self._held.pop(run.hash), state, values)

    def _set(self, trial: int, state: str, values: Sequence[float] | None = None) -> bool:
        """Whether it was this call that brought the try into the state; another worker may have been faster, or have given it up."""
        import optuna

        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            return self.storage.set_trial_state_values(trial, optuna.trial.TrialState[state], values)
        return False

    # ---- life signs ----

    def gone(self, workers: Collection[str]) -> set[str]:
        """Returns those of the workers whose heartbeat has stopped for longer than the grace period, or whose local process has ended."""
        counts = self.storage.get_study_user_attrs(self._study)
        self._monitor.observe({worker: counts.get(f"beat {worker}", -1) for worker in workers})
        silent = self._monitor.silent(self._grace)
        return {worker for worker in workers if worker in silent or _ended(worker)}

    @contextmanager
    def alive(self) -> Iterator[Self]:
        """Sends heartbeats while the block runs; then releases the runs that are still held and closes the store."""
        try:
            with repeating(self._beat, self._grace / 6):
                yield self
        finally:
            for trial in self._held.values():
                self._set(trial, "FAIL")
            self._held.clear()
            if hasattr(self.storage, "engine"):
                self.storage.engine.dispose()

    def _beat(self, count: int) -> None:
        try:
            self.storage.set_study_user_attr(self._study, f"beat {self.worker}", count)
        except Exception as error:  # a database that is gone for a moment must not end a run of hours
            _log.warning("the store cannot be written (%s); trying again", " ".join(str(error).split())[:200])


def _surroundings() -> str:
    """Four hex digits for the processes that know one another by their numbers: those of one start of a machine, in one container."""
    facts = [platform.node()]
    with suppress(OSError):
        facts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:4]


def _ended(worker: str) -> bool:
    """Whether a worker was a process of this machine that has ended."""
    words = worker.split()
    return len(words) == 4 and words[2] == _surroundings() and words[1].isdecimal() and not process_exists(int(words[1]))


# ---- opening ----


def opened(where: str, folder: Path, name: str, runs: Sequence[SweepRun], *, grace: float = 60.0, retry: bool = False) -> SharedQueue:
    """Opens a sweep's store, or makes it, and puts in the runs that it lacks.

    Args:
        where: see `address`.
        folder: of the sweep; on a disk that all workers share.
        name: of the sweep.
        runs: those that are to be done.
        grace: seconds without a sign of life after which a worker's runs are given to others, if its process cannot be seen to have ended.
        retry: also free the runs that have failed.

    Raises:
        InputError: where Optuna or a driver is missing, the store cannot be reached, or holds another sweep of this name.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(f"--store {without_password(where)} needs Optuna; pip install 'sgdr_jax[sweep]'") from None
    require(grace > 0, "--grace", grace, "use a number of seconds")
    check_disk(where)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with locked(folder):
        try:
            storage = _storage(address(where))
            study = _study(storage, name)
            known = storage.get_study_user_attrs(study).get("sweep")
            own = {"id": _identity(folder), "folder": str(folder.resolve())}
            if known is None:
                storage.set_study_user_attr(study, "sweep", own)
        except ImportError as error:
            raise InputError(
                f"--store {without_password(where)} needs a driver ({error}); for PostgreSQL pip install 'sgdr_jax[postgres]'"
            ) from None
        except Exception as error:  # of Optuna, SQLAlchemy, or a driver
            told = without_password(" ".join(str(error.__cause__ or error).split()))[:300]
            raise InputError(f"--store {without_password(where)} cannot be used: {told}") from None
    if known and known["id"] != own["id"]:
        raise InputError(f"--store {without_password(where)} holds sweep {name} of the folder {known['folder']}; use another --store")
    store = SharedQueue(storage, study, folder, grace)
    store.fill(runs, retry)
    return store


NETWORKED = re.compile(r"nfs|cifs|smb|lustre|gpfs|beegfs|afs|ceph|gluster|panfs|wekafs|fuse\.(sshfs|s3fs|gcsfuse|juicefs)")
"""File systems that several machines may have mounted, by the beginnings of their names."""


def check_disk(where: str) -> None:
    """Raises InputError for a SQLite file on a disk of the network, where its locks cannot be relied on. Source: SQLite's FAQ."""
    where = address(where)
    kind = file_system(Path(where.removeprefix("sqlite:///"))) if where.startswith("sqlite:///") else ""
    if NETWORKED.match(kind):
        journal = Path(where.removeprefix("sqlite:///")).with_suffix(".journal")
        raise InputError(f"--store {where} is SQLite on {kind}, which does not lock; use --store {journal}, or the URL of a database")


def _storage(where: str) -> Any:
    import optuna

    if "://" not in where:
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(where))
    if where.startswith("sqlite"):
        from sqlalchemy.pool import NullPool

        # A connection for each transaction, so that none is left open.
        storage = optuna.storages.RDBStorage(where, engine_kwargs={"connect_args": {"timeout": 60}, "poolclass": NullPool})
        _serialise(storage.engine)
        return storage
    return optuna.storages.RDBStorage(where, engine_kwargs={"pool_pre_ping": True})


def _serialise(engine: Any) -> None:
    """Lets SQLite's transactions begin by taking the lock. Python's driver begins one at the first write only, so that two workers could
    both read that a try is waiting before either takes it. Source: SQLAlchemy's notes on pysqlite."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections from before know nothing of this


def _study(storage: Any, name: str) -> int:
    from optuna.exceptions import DuplicatedStudyError
    from optuna.study import StudyDirection

    with suppress(DuplicatedStudyError):
        return storage.create_new_study([StudyDirection.MAXIMIZE], name)
    return storage.get_study_id_from_name(name)


def _identity(folder: Path) -> str:
    """What tells a sweep's folder from all others, wherever it is mounted."""
    file = folder / ".id"
    if not file.exists():
        file.write_text(secrets.token_hex(8), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def locked(folder: Path) -> FileLock:
    """The lock of a sweep's folder, for what has to be done by one worker at a time."""
    return FileLock(folder / ".store.lock")
