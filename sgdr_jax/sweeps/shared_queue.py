"""Queue of a sweep's runs that workers in any number of processes and machines share, kept in Optuna's storage.

A sweep is a study of its name, and each try of a run is a trial: waiting, running, complete (with the validation accuracy as its value), or
failed, with the attribute `error` where the run itself failed and without it where its worker has gone. Of several open tries of a run the
oldest counts. A try changes its state in one transaction, so no two workers get the same one.

A worker counts up an attribute of the study, "beat WORKER", while it lives. Where the count stands still for `grace` seconds of another
worker's clock, the worker is taken for dead; clocks of machines need not agree, and every kind of storage will do. A worker whose process
ran on the same machine and has ended is dead at once. Its runs become free again and continue from their checkpoints. If it was only
stuck, its lock on the run folder keeps the others out (see `runs.folder`).

Run folders are the results; the storage holds only who does what. Workers share both.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import random
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock

from ..core.errors import InputError, without_password
from ..core.machine import process_exists
from ..core.validation import require
from ..distributed.heartbeat import PeerMonitor, repeating
from .optuna_storage import address, check_disk, open_storage
from .run_status import read_status
from .spec import SweepRun

MISSES = 4
"""Runs that other workers were faster to take, after which a worker looks anew at what is free."""

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    Tries = Mapping[str, list[FrozenTrial]]
    """Tries of each run by its hash, oldest first."""

_log = logging.getLogger(__name__)


class SharedQueue:
    """One worker's view of the shared queue of a sweep; made by `open_queue`.

    Attributes:
        worker: name of this worker.
        storage: Optuna's storage.
    """

    def __init__(self, storage: BaseStorage, study: int, folder: Path, grace: float) -> None:
        self.worker = f"{platform.node()} {os.getpid()} {_machine()} {secrets.token_hex(3)}"
        self.storage, self._study, self._folder, self._grace = storage, study, folder, grace
        self._free: dict[str, int] = {}  # hash of a run to its open try, as last seen
        self._taken: dict[str, int] = {}
        self._monitor = PeerMonitor()
        self._position, self._random = 0, random.Random(self.worker)

    # ---- the queue ----

    def take(self, runs: Sequence[SweepRun]) -> SweepRun | None:
        """Take a free one of these runs, by preference the next after the last that was taken; None where none is.

        Where another worker was faster, it goes on at a place drawn at random, so that workers spread over the runs.
        """
        free = [(i, run) for i, run in enumerate(runs) if run.hash in self._free]
        position, misses = next((k for k, (i, _) in enumerate(free) if i >= self._position), 0), 0
        while free:
            i, run = free.pop(position)
            trial = self._free.pop(run.hash, None)  # None: of another run with the same hash, such as a trial that is an arm too
            if trial is not None and self._claim(trial):
                self._taken[run.hash], self._position = trial, i
                return run
            misses += 1
            if misses % MISSES == 0:
                self._find_free(runs, self._tries())
                free = [(i, run) for i, run in free if run.hash in self._free]
            position = self._random.randrange(max(len(free), 1))
        return None

    def finish(self, run: SweepRun, value: float) -> None:
        """Record that a taken run has finished; `value` is its validation accuracy."""
        self._end(run, "COMPLETE", [value])

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """Record that a taken run has failed and is not to be executed again."""
        import optuna

        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # Others took this worker for dead.
            self.storage.set_trial_user_attr(self._taken[run.hash], "error", error[:1000])
        self._end(run, "FAIL")

    def give_back(self, run: SweepRun) -> None:
        """Release a taken run whose folder another process uses."""
        self._end(run, "FAIL")

    def left(self, runs: Sequence[SweepRun]) -> bool:
        """Free the runs of dead workers, and return whether any of these runs is free or being executed."""
        tries, freed = self._tries(), False
        running = [t for trials in tries.values() for t in trials if t.state.name == "RUNNING"]
        dead = self.dead(set(map(worker_of, running)))
        for trial in running:
            if (worker := worker_of(trial)) in dead:
                _log.warning("worker %s of run %s has gone", worker, trial.user_attrs["number"])
                freed = self._set(trial._trial_id, "FAIL") or freed
        tries = self.fill(runs, self._tries() if freed else tries)
        return bool(self._free) or any(trial.state.name == "RUNNING" for run in runs for trial in tries.get(run.hash, ()))

    @property
    def pause(self) -> float:
        """Seconds between two looks at what other workers do."""
        return min(self._grace / 4, 5.0)

    # ---- tries ----

    def fill(self, runs: Sequence[SweepRun], tries: Tries | None = None, *, retry: bool = False, lost: Collection[str] = ()) -> Tries:
        """Add a try for each run that is neither open nor done, and return all tries.

        Args:
            runs: runs to execute.
            tries: all tries, as just read.
            retry: also add those that have failed.
            lost: hashes of runs without results; they are added even if the queue has them as complete or failed.
        """
        import optuna

        def lacking(tries: Tries) -> list[SweepRun]:
            return [run for run in {run.hash: run for run in runs}.values() if not _open_or_done(tries.get(run.hash, ()), run, retry, lost)]

        tries = self._tries() if tries is None else tries
        if lacking(tries):
            with lock(self._folder):
                for run in lacking(self._tries()):  # another worker may have been faster
                    facts = {"run": run.hash, "number": run.number, "arm": run.arm, "seed": run.seed}
                    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs=facts)
                    self.storage.create_new_trial(self._study, trial)
            tries = self._tries()
        self._find_free(runs, tries)
        return tries

    def _find_free(self, runs: Sequence[SweepRun], tries: Tries) -> None:
        self._free = {}
        for key in {run.hash for run in runs} & tries.keys():
            trials = tries[key]
            oldest = next((trial for trial in trials if not trial.state.is_finished()), None)
            if oldest and oldest.state.name == "WAITING":
                done = any(trial.state.name == "COMPLETE" for trial in trials[trials.index(oldest) :])
                self._free |= {} if done else {key: oldest._trial_id}

    def _tries(self) -> Tries:
        """Map the hash of each run to its tries, oldest first."""
        tries: dict[str, list[FrozenTrial]] = {}
        for trial in sorted(self.storage.get_all_trials(self._study, deepcopy=False), key=lambda trial: trial.number):
            if "run" in trial.user_attrs:
                tries.setdefault(trial.user_attrs["run"], []).append(trial)
        return tries

    def _claim(self, trial: int) -> bool:
        import optuna

        if not self._set(trial, "RUNNING"):
            return False
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # Others took a try without a name for that of a dead worker.
            self.storage.set_trial_user_attr(trial, "worker", self.worker)
            return True
        return False

    def _end(self, run: SweepRun, state: str, values: Sequence[float] | None = None) -> None:
        self._set(self._taken.pop(run.hash), state, values)

    def _set(self, trial: int, state: str, values: Sequence[float] | None = None) -> bool:
        """Return whether this call brought the try into the state; another worker may have been faster, or have given it up."""
        import optuna

        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            return self.storage.set_trial_state_values(trial, optuna.trial.TrialState[state], values)
        return False

    # ---- signs of life ----

    def dead(self, workers: Collection[str]) -> set[str]:
        """Return the other workers whose heartbeat has stopped for longer than the grace period, or whose local process has ended."""
        workers = set(workers) - {self.worker}
        counts = self.storage.get_study_user_attrs(self._study)
        self._monitor.observe({worker: counts.get(f"beat {worker}", -1) for worker in workers})
        silent = self._monitor.silent(self._grace)
        return {worker for worker in workers if worker in silent or _ended(worker)}

    @contextmanager
    def alive(self) -> Iterator[Self]:
        """Send heartbeats while the block runs; then release the runs that are still taken and close the storage."""
        try:
            with repeating(self._beat, self._grace / 6):
                yield self
        finally:
            for trial in self._taken.values():
                self._set(trial, "FAIL")
            self._taken.clear()
            close = getattr(self.storage, "close", None) or getattr(getattr(self.storage, "engine", None), "dispose", None)
            if close:
                close()

    def _beat(self, count: int) -> None:
        try:
            self.storage.set_study_user_attr(self._study, f"beat {self.worker}", count)
        except Exception as error:  # A database that is gone for a moment must not end a run of hours.
            _log.warning("the store cannot be written (%s); trying again", " ".join(str(error).split())[:200])


def worker_of(trial: FrozenTrial) -> str:
    """Return the worker that executes a try; until it has written its name, right after it took the try, one that no other try has."""
    return trial.user_attrs.get("worker") or f"without a name (try {trial.number})"


def _open_or_done(trials: Sequence[FrozenTrial], run: SweepRun, retry: bool, lost: Collection[str]) -> bool:
    """Return whether a run with these tries needs no other one; see `SharedQueue.fill`."""
    states = {trial.state.name for trial in trials} - ({"COMPLETE"} if run.hash in lost else set())
    failed = bool(trials) and "error" in trials[-1].user_attrs and not retry and run.hash not in lost
    return failed or bool(states & {"WAITING", "RUNNING", "COMPLETE"})


def _machine() -> str:
    """Return four hex digits that processes share which see one another: those of one boot of a machine, in one container."""
    facts = [platform.node()]
    with suppress(OSError):
        facts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:4]


def _ended(worker: str) -> bool:
    """Return whether a worker was a process of this machine that has ended."""
    words = worker.split()
    return len(words) == 4 and words[2] == _machine() and words[1].isdecimal() and not process_exists(int(words[1]))


# ---- opening ----


def default_store(folder: Path) -> str:
    """Return the store of a sweep's folder: a journal, or the SQLite file that earlier versions began."""
    older = folder / "store.db"
    return str(older if older.exists() else folder / "store.journal")


def open_queue(store: str, folder: Path, name: str, runs: Sequence[SweepRun], *, grace: float = 60.0, retry: bool = False) -> SharedQueue:
    """Open the shared queue of a sweep, or create it, and add the runs that it lacks.

    Args:
        store: see `address`.
        folder: folder of the sweep, on a disk that all workers share.
        name: name of the sweep.
        runs: unfinished runs; those whose results were deleted are executed again.
        grace: seconds without a heartbeat after which a worker's runs are given to others, unless its process is seen to have ended.
        retry: also execute the runs that have failed.

    Raises:
        InputError: where Optuna or a driver is missing, the store cannot be reached, or it holds another sweep of this name.
    """
    shown = f"--store {without_password(store)}"
    try:
        import optuna
    except ImportError:
        raise InputError(f"{shown} needs Optuna; pip install 'sgdr_jax[sweep]'") from None
    require(grace > 0, "--grace", grace, "use a number of seconds")
    check_disk(store)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with lock(folder):
        try:
            storage = open_storage(address(store))
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)._study_id
            owner = storage.get_study_user_attrs(study).get("sweep")
            own = {"id": _identity(folder), "folder": str(folder.resolve())}
            if owner is None:
                storage.set_study_user_attr(study, "sweep", own)
        except ImportError as error:
            raise InputError(f"{shown} needs a driver ({error}); for PostgreSQL or grpc:// pip install 'sgdr_jax[postgres]'") from None
        except Exception as error:  # of Optuna, SQLAlchemy, or a driver
            reason = without_password(" ".join(str(error.__cause__ or error).split()))[:300]
            raise InputError(f"{shown} cannot be used: {reason}") from None
    if owner and owner["id"] != own["id"]:
        raise InputError(f"{shown} holds sweep {name} of the folder {owner['folder']}; use another --store")
    queue = SharedQueue(storage, study, folder, grace)
    tries = queue._tries()  # before the folders are read: a run that ends in between has its results first
    over = [run.hash for run in runs if any(t.state.name == "COMPLETE" or "error" in t.user_attrs for t in tries.get(run.hash, ()))]
    kept = ("finished",) if retry else ("finished", "failed")
    queue.fill(runs, tries, retry=retry, lost={key for key in over if read_status(folder, key).state not in kept})
    return queue


def _identity(folder: Path) -> str:
    """Return an id that tells a sweep's folder from all others, wherever it is mounted."""
    file = folder / ".id"
    if not file.exists():
        file.write_text(secrets.token_hex(8), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def lock(folder: Path) -> FileLock:
    """Return the lock of a sweep's folder, for what only one worker may do at a time."""
    return FileLock(folder / ".store.lock")
