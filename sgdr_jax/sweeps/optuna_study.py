"""Search of a sweep as an Optuna study, in the storage that its workers share: draws trials, reports them, and takes over abandoned ones.

The study is called "NAME search". A draw is a function of the search's seed, the trial's number and the results known by then; it is made
under the folder's lock, so no two workers draw the same number. Each try of a trial is one of Optuna's trials, with the trial's number as
the attribute `trial`; the newest counts. A failed one has the attribute `error`; one without it was left by a worker that has gone, was
interrupted, or found its run folder in use: whoever draws next tries the same values again, and the run continues from its checkpoint.

CMA-ES and the grid are computed here from the study's trials: Optuna's own CMA-ES keeps its state in the storage as a pickle, through which
anybody who can write to the storage could run code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..core.errors import InputError, Pruned
from .search_space import (
    Categorical,
    Domain,
    Halving,
    Integer,
    LogUniform,
    Median,
    NumericDomain,
    Pruner,
    Search,
    Uniform,
    from_unit,
    grid_values,
    to_unit,
)
from .shared_queue import SharedQueue, lock, worker_of
from .spec import Sweep, SweepRun, trial_run
from .trial_records import read_trials, save_pruned, save_trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial, TrialState

_log = logging.getLogger(__name__)


class Study:
    """One worker's view of the search of a sweep; a context manager that releases the trials which it still holds.

    Args:
        queue: shared queue of the sweep.
        sweep: sweep with a search.
        folder: folder of the sweep.
        retry: queue the failed trials again.
    """

    def __init__(self, queue: SharedQueue, sweep: Sweep, folder: Path, retry: bool = False) -> None:
        assert sweep.search
        import optuna

        self.search, self._queue, self._sweep, self._folder = sweep.search, queue, sweep, folder
        _check_installed(self.search)
        self._study = optuna.create_study(
            study_name=f"{sweep.name} search",
            storage=queue.storage,
            pruner=_pruner(self.search.pruner),
            direction="maximize" if self.search.objective == "accuracy" else "minimize",
            load_if_exists=True,
        )
        self._taken: dict[str, Trial] = {}
        with lock(self._folder):
            self._queue_again(retry=retry, lost=self._lost())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for key in list(self._taken):
            self._tell(key, "FAIL")

    @property
    def pause(self) -> float:
        """Seconds between two looks at what other workers do."""
        return self._queue.pause

    # ---- drawing ----

    def take(self) -> SweepRun | None:
        """Draw a trial, abandoned ones first; None where there is none."""
        with lock(self._folder):
            trials = self._queue_again()
            while trial := self._ask(trials):
                run = self._run(trial)
                if run and run.hash in self._taken:  # Drawn twice at once: the other result serves both when it is known.
                    self._study.tell(trial, state=_state("FAIL"))
                    return None
                if run:
                    save_trial(self._folder, run)
                    self._taken[run.hash] = trial
                    return run
                trials = self._trials()
        return None

    def left(self) -> int:
        """Count the trials that are to be drawn or executed, or are being executed."""
        tries = _newest(self._trials())
        return max(self.search.count - len(tries), 0) + sum(not _over(trial) for trial in tries.values())

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _ask(self, trials: Sequence[FrozenTrial]) -> Trial | None:
        """Return a try of the next trial, or None; `trials` are all tries so far."""
        number = len({trial.user_attrs["trial"] for trial in trials})
        if not any(trial.state.name == "WAITING" for trial in trials):
            if number >= self.search.count:
                return None
            params, attributes = self._proposed(number, trials)
            self._study.enqueue_trial(params, user_attrs={"trial": number} | attributes)
        self._study.sampler = _sampler(self.search, number)
        trial = self._study.ask({field: _distribution(domain) for field, domain in self.search.space.items()})
        trial.set_user_attr("worker", self._queue.worker)
        return trial

    def _proposed(self, number: int, trials: Sequence[FrozenTrial]) -> tuple[dict[str, object], dict[str, int]]:
        """Return the values of the next trial as Optuna knows them, where its samplers do not draw them, and attributes of the trial."""
        if self.search.sampler == "grid":
            values, attributes = grid_values(self.search, number), {}
        elif self.search.sampler == "cmaes":
            values, attributes = cma_values(self.search, number, trials)
        else:
            return {}, {}
        return {field: _param(domain, values[field]) for field, domain in self.search.space.items()}, attributes

    def _run(self, trial: Trial) -> SweepRun | None:
        number = trial.user_attrs["trial"]
        values = tuple((field, _value(domain, trial.params[field])) for field, domain in self.search.space.items())
        try:
            return trial_run(self._sweep, number, values)
        except InputError as error:
            _log.warning("trial %d is left out: %s", number, error)
            trial.set_user_attr("error", str(error)[:1000])
            self._study.tell(trial, state=_state("PRUNED"))
            return None

    # ---- tries of one trial ----

    def _lost(self) -> set[int]:
        """Return the trials that have ended, but whose results were deleted."""
        # Before the folders are read: a trial that ends in between has its results first.
        over = {number for number, trial in _newest(self._trials()).items() if _over(trial)}
        return {t.number for t in read_trials(self._folder, self.search.objective) if t.number in over and t.state in ("", "begun")}

    def _queue_again(self, retry: bool = False, lost: Collection[int] = ()) -> list[FrozenTrial]:
        """Queue the trials of dead workers and the `lost` ones again, with `retry` the failed ones too; return all tries."""
        trials = self._trials()
        for trial in (t for t in _newest(trials).values() if t.state.name == "RUNNING"):
            if (worker := worker_of(trial)) in self._queue.dead({worker}):
                _log.warning("worker %s of trial %s has gone", worker, trial.user_attrs["trial"])
                self._study.tell(trial.number, state=_state("FAIL"), skip_if_finished=True)
                trials = []
        trials = trials or self._trials()
        again = {n: t for n, t in _newest(trials).items() if t.state.name == "FAIL" and (retry or "error" not in t.user_attrs)}
        again |= {number: trial for number, trial in _newest(trials).items() if number in lost}
        for trial in again.values():
            attributes = {name: trial.user_attrs[name] for name in ("trial", "generation") if name in trial.user_attrs}
            self._study.enqueue_trial(trial.params, user_attrs=attributes)
        return self._trials() if again else trials

    # ---- outcomes ----

    def report(self, run: SweepRun, cycle_ends: int, value: float, *, last: bool = False) -> None:
        """Report the objective at a cycle end.

        Args:
            run: a taken trial.
            cycle_ends: number of cycle ends so far, over all stages.
            value: value of the objective.
            last: never prune here.

        Raises:
            Pruned: where the trial is to stop.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        trial = self._taken[run.hash]
        with suppress(UpdateFinishedTrialError):  # Others took this worker for dead; it has the run folder, and continues.
            if cycle_ends not in trial.storage.get_trial(trial._trial_id).intermediate_values:
                trial.report(value, cycle_ends)
            if self.search.pruner and not last and trial.should_prune():
                save_pruned(self._folder, run, cycle_ends, value)
                raise Pruned(f"pruned: {self.search.objective} {value:.4f} at cycle end {cycle_ends}")

    def finish(self, run: SweepRun, value: float) -> None:
        """Record that a taken trial has finished with this value of the objective."""
        self._tell(run.hash, "COMPLETE", value)

    def prune(self, run: SweepRun) -> None:
        """Record that a taken trial was pruned."""
        self._tell(run.hash, "PRUNED")

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """Record that a taken trial has failed.

        Diverged trials are reported as pruned: the sampler ranks them behind complete ones, by the last value that they reported, and
        behind all where they reported none.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        with suppress(UpdateFinishedTrialError):
            self._taken[run.hash].set_user_attr("error", error[:1000])
        self._tell(run.hash, "PRUNED" if diverged else "FAIL")

    def give_back(self, run: SweepRun) -> None:
        """Release a taken trial whose run folder another process uses."""
        self._tell(run.hash, "FAIL")

    def _tell(self, key: str, state: str, value: float | None = None) -> None:
        self._study.tell(self._taken.pop(key).number, value, state=_state(state), skip_if_finished=True)


def _newest(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Map the number of each trial to its newest try."""
    return {trial.user_attrs["trial"]: trial for trial in sorted(trials, key=lambda trial: trial.number)}


def _over(trial: FrozenTrial) -> bool:
    """Return whether a try ended its trial."""
    return trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and "error" in trial.user_attrs)


# ---- draws as functions of the results ----


def cma_values(search: Search, number: int, trials: Sequence[FrozenTrial]) -> tuple[dict[str, float], dict[str, int]]:
    """Draw the values of trial `number` by CMA-ES in the unit cube of the space, and return them with the trial's generation.

    The distribution is that after all complete generations. Each generation consists of the first trials of it that ended; pruned ones
    count as the worst.

    Args:
        search: search over numbers.
        number: number of the trial.
        trials: Optuna's trials, with the attribute `generation`.

    Source: Hansen 2016, "The CMA evolution strategy: a tutorial"; the package cmaes.
    """
    from cmaes import CMA

    space = {field: domain for field, domain in search.space.items() if isinstance(domain, NumericDomain)}
    size, sign = len(space), -1.0 if search.objective == "accuracy" else 1.0
    optimizer = CMA(np.full(size, 0.5), 1 / 5, np.tile([0.0, 1.0], (size, 1)), seed=_seed(search, number))
    ended: dict[int, list[FrozenTrial]] = {}
    for trial in sorted((t for t in trials if t.state.name in ("COMPLETE", "PRUNED")), key=_completed):
        ended.setdefault(trial.user_attrs["generation"], []).append(trial)
    while len(generation := ended.get(optimizer.generation, [])[: optimizer.population_size]) == optimizer.population_size:
        points = (np.array([to_unit(domain, t.params[field]) for field, domain in space.items()]) for t in generation)
        values = (sign * t.value if t.state.name == "COMPLETE" and t.value is not None else math.inf for t in generation)
        optimizer.tell(list(zip(points, values, strict=True)))
    point = optimizer.ask()
    return {f: from_unit(d, float(x)) for (f, d), x in zip(space.items(), point, strict=True)}, {"generation": optimizer.generation}


def _completed(trial: FrozenTrial) -> datetime:
    assert trial.datetime_complete
    return trial.datetime_complete


def _seed(search: Search, number: int) -> int:
    return int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])


def _sampler(search: Search, number: int) -> BaseSampler:
    import optuna

    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=search.startup, constant_liar=True, seed=_seed(search, number))
    return optuna.samplers.RandomSampler(_seed(search, number))


def _pruner(pruner: Pruner | None) -> BasePruner:
    import optuna

    if isinstance(pruner, Median):
        return optuna.pruners.MedianPruner(pruner.startup, n_warmup_steps=pruner.warmup + 1)
    if isinstance(pruner, Halving):
        return optuna.pruners.SuccessiveHalvingPruner(pruner.first, pruner.factor)
    return optuna.pruners.NopPruner()


def _distribution(domain: Domain) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Categorical):
        return CategoricalDistribution(domain.names)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    assert isinstance(domain, NumericDomain)
    if isinstance(domain, Uniform) and domain.step:
        return FloatDistribution(domain.low, domain.value(domain.count - 1), step=domain.step)
    return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))


def _param(domain: Domain, value: object) -> object:
    """Return a value as Optuna knows it."""
    return domain.names[domain.values.index(value)] if isinstance(domain, Categorical) else value


def _value(domain: Domain, param: str | float) -> object:
    return domain.values[domain.names.index(param)] if isinstance(domain, Categorical) else param


def _state(name: str) -> TrialState:
    from optuna.trial import TrialState

    return TrialState[name]


def _check_installed(search: Search) -> None:
    if search.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError:
            raise InputError("search.sampler is 'cmaes', which needs its package; pip install 'sgdr_jax[sweep]'") from None
