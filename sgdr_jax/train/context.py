"""Run context: an experiment with its data loaded, network built, plan made and programs ready; every procedure starts from one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from ..core.console import NullConsole
from ..core.experiment import Experiment
from ..core.plan import Plan, StagePlan, check_unvalidated, plan
from ..core.rng import key_for
from ..core.serialization import key_text
from ..core.state import NetworkState, Tree
from ..core.types import Source
from ..core.validation import require
from ..data.load import Data, canvas_side, load_for, tell_unreadable
from ..data.loader import ImageLoader, image_loader
from ..data.placement import choose_residence
from ..datasets.train_and_valid import check_joinable
from ..distributed.hosts import all_hosts, require_same, run_on_all_hosts
from ..distributed.memory import free_device_memory
from ..distributed.self_test import check_jaxlib
from ..models.pretrained import load
from ..models.pretrained.load import Loaded
from .programs import Programs, build_programs, check_batches


class RunContext(NamedTuple):
    """An experiment made ready to run.

    Attributes:
        experiment: the experiment.
        data: images and labels of all splits, on the host.
        plan: the experiment in whole steps.
        programs: compiled programs.
        images: split name to its images, resident or streamed.
        network: the network before the first stage: pretrained body, fresh head.
        loaded: origin of the weights.
        due: whether a checkpoint is due, asked wherever one may be saved (see `RateLimiter`).
        watch: receives the validation row of each cycle, before its checkpoint; raises `Pruned` to end the run.
        track: receives every row of metrics.jsonl after it is written, with a function that returns the rows before it.
        leave: whether to save and stop, asked after every span of updates (see `preemption`).
        accept_new_data: whether a resumed run may go on with other data than it began with.
        shares: whether data and programs are those of an earlier run, which has shown what it found.
        span_stages: stages whose spans of updates have one length, so that they share programs: all of this training and, with `refit`, all
            of the one on all images.
    """

    experiment: Experiment
    data: Data
    plan: Plan
    programs: Programs
    images: Mapping[str, ImageLoader]
    network: NetworkState
    loaded: Loaded
    due: Callable[[], bool] = lambda: True
    watch: Callable[[dict[str, Any]], None] = lambda row: None
    track: Callable[[Any, Callable[[], Sequence[Any]]], None] = lambda row, earlier: None
    leave: Callable[[], bool] = lambda: False
    accept_new_data: bool = False
    shares: bool = False
    span_stages: tuple[StagePlan, ...] = ()


class RateLimiter:
    """Rate limiter: returns True at most once every `seconds`.

    A checkpoint of a small network takes as long as dozens of its updates, and saves only the work since the previous one.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds, self._clock, self._last = seconds, clock, clock()

    def __call__(self) -> bool:
        now = self._clock()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def prepare(
    experiment: Experiment, ui: NullConsole | None = None, like: RunContext | None = None, source: Source | None = None
) -> RunContext:
    """Prepare an experiment to run: plan it, decode its images, build its programs and load its weights.

    Args:
        experiment: the experiment.
        ui: shows what was found.
        like: context of an experiment with the same `sharing_key`, whose data, programs and arrays are shared.
        source: data of the experiment, if already open.

    Raises:
        InputError: if data, model and plan do not fit together.
    """
    ui = ui or NullConsole()
    if like:
        return _prepare_like(experiment, like)
    run_on_all_hosts(check_jaxlib)
    data, schedule, programs, network, loaded = run_on_all_hosts(lambda: _load(experiment, source or experiment.data.open(), ui))
    require_same("the data", data.fingerprint)
    require_same("the weights", loaded.record())
    network = network._replace(**programs.hold({"params": network.params, "stats": network.stats}))
    share = -(-data.bytes // programs.devices.count)
    resident, why = choose_residence(experiment.images, share, data.storage, device=free_device_memory(programs.devices))
    resident = all_hosts(resident)
    ui.say(f"images: {sum(data.sizes.values()):,} of {data.images['train'].shape[1]} px; {data.storage_reason}; {why}")
    if (count := programs.devices.count) > 1:
        ui.say(f"{count} devices, {experiment.batch_size // count} of the {experiment.batch_size} images of a batch on each")
    loaders = {split: image_loader(pixels, programs.devices, resident) for split, pixels in data.images.items()}
    spans = _span_stages(experiment, schedule, data)
    return RunContext(experiment, data, schedule, programs, loaders, network, loaded, span_stages=spans)


def _load(experiment: Experiment, source: Source, ui: NullConsole) -> tuple[Data, Plan, Programs, NetworkState, Loaded]:
    """Do the per-host part of `prepare`, which may fail on one host alone."""
    schedule = _planned(experiment, source.sizes["train"], "valid" in source.labels, rated=source.rates is not None)
    data = load_for(experiment, source, ui)
    tell_unreadable(data.bad, sum(source.sizes.values()), ui.say)
    if data.bad:
        schedule = plan(experiment, len(data.labels["train"]))
    chain, params, stats, loaded = load.start(experiment.model, len(data.classes), data.channels, key_for(experiment.seed, "init"))
    ui.say(f"{type(experiment.model).__name__}: {loaded}")
    for note in _random_notes(schedule, stats) if loaded.source is None else ():
        ui.say(f"  {note}")
    for p in schedule.stages:
        if p.collects and p.batch_size == p.stage.accumulate:
            fix = "use a larger batch_size" + (", or a smaller accumulate" if p.batch_size > 1 else "")
            ui.say(f"{p.stage.name}: batch statistics of a single image make all images look the same to the head; {fix}")
    return data, schedule, build_programs(experiment, chain), NetworkState(params, stats, experiment.largest_size), loaded


def _random_notes(schedule: Plan, stats: Tree) -> list[str]:
    """Return what stays random of a network without weights: layer groups, and batch statistics of those that train."""
    trained = {group for p in schedule.stages for group in p.trained}
    collected = {group for p in schedule.stages for group in p.collects}
    alone = [group for group in stats if group not in trained]
    frozen = [group for group in stats if group in trained - collected and jax.tree.leaves(stats[group])]
    notes = [f'{", ".join(alone)}: random, and no stage trains it; give weights, or use train="all"'] if alone else []
    fix = 'from no images, and no stage collects them; give weights, or use bn="train"'
    return notes + ([f"batch statistics of {', '.join(frozen)}: {fix}"] if frozen else [])


def _span_stages(experiment: Experiment, schedule: Plan, data: Data) -> tuple[StagePlan, ...]:
    """Return the stages of a training and of its refit, which is planned as if all stages were kept whole."""
    images = sum(len(data.labels[split]) for split in ("train", "valid") if split in data.labels)
    return (*schedule.stages, *(plan(replace(experiment, refit=False), images).stages if experiment.refit else ()))


def _planned(experiment: Experiment, train_size: int, validated: bool, *, rated: bool) -> Plan:
    """Plan the experiment; refuse batches that do not fit the devices, what lacks validation images, and a refit that cannot join them."""
    schedule = plan(experiment, train_size)
    check_batches(experiment, schedule)
    if not validated:
        require(not experiment.refit, "refit", True, "there are no validation images that could choose anything; use False")
        check_unvalidated(experiment, schedule.stages, "there are no validation images")
    if experiment.refit:
        check_joinable(experiment.data, rated, "data, with refit,")
    return schedule


def sharing_key(experiment: Experiment) -> str:
    """Return a text that is equal for experiments which may share data and programs; see `prepare`."""
    e = experiment
    side = canvas_side(e.canvas, e.largest_size)
    batches = sorted({e.batch_size, *(stage.batch_size or e.batch_size for stage in e.stages)})
    facts = (e.data, e.model, e.parallel, side, e.resize, e.images, e.max_bad_share, e.compute, e.evaluate.batch_size, batches)
    return key_text(facts)


def _prepare_like(experiment: Experiment, like: RunContext) -> RunContext:
    schedule = _planned(experiment, len(like.data.labels["train"]), "valid" in like.images, rated=like.data.rates is not None)
    params, stats, _ = like.network
    if experiment.seed != like.experiment.seed:
        drawn = load.drawn_anew(experiment.model, like.programs.network, like.loaded, key_for(experiment.seed, "init"))
        params, stats = (known | like.programs.hold(new) for known, new in zip((params, stats), drawn, strict=True))
    network = NetworkState(params, stats, experiment.largest_size)
    spans = _span_stages(experiment, schedule, like.data)
    return like._replace(experiment=experiment, plan=schedule, network=network, shares=True, span_stages=spans)
