"""The search of a sweep as a study of Optuna's, in the store that its workers share: trials are drawn, told of, and taken over.

The study is called "NAME search". A draw is a function of the search's seed, the trial's number, and what the study knows by then; it is
made under the folder's lock, so no two workers draw the same number. Each try of a trial is one of Optuna's, with the trial's number as
the attribute `trial`; the newest counts. One that fails by itself has the attribute `error`; one without was left by a worker that has
gone, was interrupted, or found its run folder in use: whoever draws next tries the same values again, and the run goes on from its
checkpoint.

CMA-ES and the grid are worked out here from what the study knows: Optuna's own CMA-ES keeps its state in the store as a pickle, which
whoever writes to the store could use to run code.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..core.errors import InputError, Pruned
from .search_space import (
    Categorical,
    Domain,
    Halving,
    Integer,
    LogUniform,
    Median,
    Pruner,
    Search,
    Uniform,
    from_unit,
    grid_values,
    to_unit,
)
from .shared_queue import SharedQueue, locked
from .spec import Sweep, SweepRun, trial_run
from .trial_records import keep_pruned, keep_trial

_log = logging.getLogger(__name__)


class Study:
    """One worker's door to the search of a sweep; in a `with` block, which gives back what it still holds."""

    def __init__(self, store: SharedQueue, sweep: Sweep, folder: Path, retry: bool = False) -> None:
        assert sweep.search
        import optuna

        self.search, self._store, self._sweep, self._folder, self._retry = sweep.search, store, sweep, folder, retry
        _check_installed(self.search)
        direction = "maximize" if self.search.objective == "accuracy" else "minimize"
        how: dict[str, Any] = {"pruner": _pruner(self.search.pruner), "direction": direction, "load_if_exists": True}
        self._study = optuna.create_study(study_name=f"{sweep.name} search", storage=store.storage, **how)
        self._held: dict[str, Any] = {}
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for key in list(self._held):
            self._tell(key, "FAIL")

    # ---- drawing ----

    def take(self, most: int) -> list[SweepRun]:
        """Draws up to `most` trials, those first that were begun and left."""
        if self._busy:
            time.sleep(self._store.pause)
            self._busy = False
        taken: list[SweepRun] = []
        with locked(self._folder):
            self._queue_again()
            while len(taken) < most and (trial := self._ask()):
                run = self._run(trial)
                if run and run.hash not in self._held:
                    keep_trial(self._folder, run)
                    self._held[run.hash] = trial
                    taken.append(run)
                elif run:  # the same values twice at once: it is told with the other's result when that is done
                    self._study.tell(trial, state=_state("FAIL"))
                    break
        return taken

    def left(self) -> bool:
        """Waits a moment, then gives True, while trials are to be drawn or another worker's run."""
        tries = self._tries()
        if len(tries) < self.search.count or any(not _over(trial) for trial in tries.values()):
            time.sleep(self._store.pause)
            return True
        return False

    def _ask(self) -> Any:
        """A try of the next trial, or None."""
        trials = self._study.get_trials(deepcopy=False)
        number = len({trial.user_attrs["trial"] for trial in trials})
        if not any(trial.state.name == "WAITING" for trial in trials):
            if number >= self.search.count:
                return None
            params, attributes = self._proposed(number, trials)
            self._study.enqueue_trial(params, user_attrs={"trial": number} | attributes)
        self._study.sampler = _sampler(self.search, number)
        trial = self._study.ask({field: _distribution(domain) for field, domain in self.search.space.items()})
        trial.set_user_attr("worker", self._store.worker)
        return trial

    def _proposed(self, number: int, trials: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of the next trial as Optuna knows them, as far as its samplers do not draw them; and what to remember with it."""
        if self.search.sampler == "grid":
            drawn, attributes = grid_values(self.search, number), {}
        elif self.search.sampler == "cmaes":
            drawn, attributes = cma_values(self.search, number, trials)
        else:
            return {}, {}
        return {field: _param(domain, drawn[field]) for field, domain in self.search.space.items()}, attributes

    def _run(self, trial: Any) -> SweepRun | None:
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

    def _tries(self) -> dict[int, Any]:
        """The newest try of each trial."""
        return {t.user_attrs["trial"]: t for t in sorted(self._study.get_trials(deepcopy=False), key=lambda t: t.number)}

    def _queue_again(self) -> None:
        """Queues the trials again whose workers have gone; at first, with `retry`, those that have failed too."""
        for trial in (t for t in self._tries().values() if t.state.name == "RUNNING"):
            worker = trial.user_attrs.get("worker", "")
            if worker != self._store.worker and worker in self._store.gone({worker}):
                _log.warning("the worker %s of trial %s has gone", worker, trial.user_attrs["trial"])
                self._study.tell(trial.number, state=_state("FAIL"), skip_if_finished=True)
        for trial in self._tries().values():
            if trial.state.name == "FAIL" and (self._retry or "error" not in trial.user_attrs):
                kept = {name: trial.user_attrs[name] for name in ("trial", "generation") if name in trial.user_attrs}
                self._study.enqueue_trial(trial.params, user_attrs=kept)
        self._retry = False

    # ---- what becomes of them ----

    def report(self, run: SweepRun, cycle_ends: int, value: float, *, last: bool = False) -> None:
        """The value of the objective at a cycle's end, counted from 1. Raises Pruned where the trial is to end there, if not the `last`."""
        from optuna.exceptions import UpdateFinishedTrialError

        trial = self._held[run.hash]
        with suppress(UpdateFinishedTrialError):  # others took this worker for dead: it holds the run's folder, and goes on
            if cycle_ends not in trial.storage.get_trial(trial._trial_id).intermediate_values:
                trial.report(value, cycle_ends)
            if self.search.pruner and not last and trial.should_prune():
                keep_pruned(self._folder, run, cycle_ends, value)
                raise Pruned(f"ended early: {self.search.objective} {value:.4f} at cycle end {cycle_ends}")

    def finish(self, run: SweepRun, value: float) -> None:
        """A trial that this worker has drawn is done."""
        self._tell(run.hash, "COMPLETE", value)

    def prune(self, run: SweepRun) -> None:
        """A trial that this worker has drawn was ended early."""
        self._tell(run.hash, "PRUNED")

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """A trial has failed. One that has diverged is to the sampler the worst that was ended early: it is to keep away from there."""
        from optuna.exceptions import UpdateFinishedTrialError

        with suppress(UpdateFinishedTrialError):
            self._held[run.hash].set_user_attr("error", error[:1000])
        self._tell(run.hash, "PRUNED" if diverged else "FAIL")

    def give_back(self, run: SweepRun) -> None:
        """Another process has the run's folder: the trial is for whoever comes later."""
        self._busy = True
        self._tell(run.hash, "FAIL")

    def _tell(self, key: str, state: str, value: float | None = None) -> None:
        self._study.tell(self._held.pop(key).number, value, state=_state(state), skip_if_finished=True)


def _over(trial: Any) -> bool:
    """Whether a try ended its trial."""
    return trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and "error" in trial.user_attrs)


# ---- drawing, from what is known ----


def cma_values(search: Search, number: int, trials: Sequence[Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Values of trial `number` by CMA-ES in the unit cube of the space, and the generation that it belongs to.

    The distribution is that after all whole generations: each is told the first trials of it that were done, those that ended early as the
    worst. Source: Hansen 2016; the package cmaes.

    Args:
        trials: of Optuna's, with the attribute `generation`.
    """
    from cmaes import CMA

    size, sign = len(search.space), -1.0 if search.objective == "accuracy" else 1.0
    optimizer = CMA(np.full(size, 0.5), 1 / 5, np.tile([0.0, 1.0], (size, 1)), seed=_seed(search, number))
    done: dict[int, list[Any]] = {}
    for trial in sorted((t for t in trials if t.state.name in ("COMPLETE", "PRUNED")), key=lambda t: t.datetime_complete):
        done.setdefault(trial.user_attrs["generation"], []).append(trial)
    while len(known := done.get(optimizer.generation, [])[: optimizer.population_size]) == optimizer.population_size:
        points = (np.array([to_unit(domain, t.params[field]) for field, domain in search.space.items()]) for t in known)
        optimizer.tell([(x, sign * t.value if t.state.name == "COMPLETE" else math.inf) for x, t in zip(points, known, strict=True)])
    drawn = optimizer.ask()
    return {f: from_unit(d, float(x)) for (f, d), x in zip(search.space.items(), drawn, strict=True)}, {"generation": optimizer.generation}


def _seed(search: Search, number: int) -> int:
    return int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])


def _sampler(search: Search, number: int) -> Any:
    import optuna

    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=search.startup, constant_liar=True, seed=_seed(search, number))
    return optuna.samplers.RandomSampler(_seed(search, number))


def _pruner(pruner: Pruner | None) -> Any:
    import optuna

    if isinstance(pruner, Median):
        return optuna.pruners.MedianPruner(pruner.startup, n_warmup_steps=pruner.warmup + 1)
    if isinstance(pruner, Halving):
        return optuna.pruners.SuccessiveHalvingPruner(pruner.first, pruner.factor)
    return optuna.pruners.NopPruner()


def _distribution(domain: Domain) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Categorical):
        return CategoricalDistribution(domain.names)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Uniform) and domain.points:
        return FloatDistribution(domain.low, domain.points[-1], step=domain.step)
    return FloatDistribution(*domain.ends, log=isinstance(domain, LogUniform))


def _param(domain: Domain, value: Any) -> Any:
    """A value as Optuna knows it."""
    return domain.names[domain.values.index(value)] if isinstance(domain, Categorical) else value


def _value(domain: Domain, param: Any) -> Any:
    return domain.values[domain.names.index(param)] if isinstance(domain, Categorical) else param


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _check_installed(search: Search) -> None:
    if search.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError:
            raise InputError("search.sampler is 'cmaes', which needs its package; pip install 'sgdr_jax[sweep]'") from None
