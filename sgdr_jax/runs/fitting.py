"""One stage at a time, from any network, for notebooks: what `run` does for all stages, kept in memory."""

from __future__ import annotations

import math
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..core.console import NullConsole
from ..core.errors import Preempted
from ..core.plan import StagePlan
from ..core.serialization import config_hash, to_json
from ..core.snapshots import Snapshots
from ..core.state import NetworkState
from ..distributed.preemption import handle_signals
from ..train.context import RunContext
from ..train.model_selection import Best, Score, judge
from ..train.stage import first_state, loop_plan, open_stage
from .folder import RunFolder, open_run, read
from .predictor import Predictor
from .recorder import StageRecorder
from .records import Row, StageSummary
from .resume import StageStart, newest, restore
from .retry import persistently
from .run import run_stage


class Fitted(NamedTuple):
    """The network after some stages, and what they have recorded.

    Attributes:
        network: the network to go on with.
        best: best state so far; None without validation images.
        stages: summaries of the stages.
        rows: rows of all updates and validations, as in metrics.jsonl.
        finders: stage name to the curve of its learning-rate finder.
    """

    network: NetworkState
    best: Best | None = None
    stages: tuple[StageSummary, ...] = ()
    rows: tuple[Row, ...] = ()
    finders: Mapping[str, Mapping[str, Any]] = {}


def fit_stage(context: RunContext, plan: StagePlan, before: Fitted, ui: NullConsole) -> Fitted:
    """Train one stage with the numbers that it has within a run, and keep nothing on disk.

    After an interrupt (Ctrl-C, the notebook's stop button) the current update is finished, the network is validated as at a cycle's end,
    and the better of it and the best state before is kept; a second interrupt, or one before the first update, raises KeyboardInterrupt.

    Args:
        context: the run.
        plan: the stage.
        before: the network to start from, and what is known of it.
        ui: shows progress.
    """
    stages = list(before.stages)
    with tempfile.TemporaryDirectory() as place, handle_signals((signal.SIGINT,)) as interrupted:
        # A state is saved to be read again after an interrupt; snapshots would be thrown away.
        experiment = replace(context.experiment, snapshots=Snapshots())
        # One that may diverge and go back saves at every cycle's end, as a run does.
        due = interrupted if experiment.on_divergence == "stop" else lambda: True
        context = context._replace(experiment=experiment, due=due, leave=interrupted)
        with open_run(place, to_json(experiment), config_hash(experiment)) as folder:
            attempt = partial(run_stage, context, network=before.network, best=before.best, finished=stages, folder=folder, ui=ui)
            try:
                network, best = persistently(attempt, context, plan, StageStart(), folder, ui)
            except Preempted as error:
                ui.say(f"  interrupted, {error}".replace("preempted: saved after", "stopped after"))
                network, best = _interrupted(context, plan, before.network, stages, folder, ui)
        recorded = read(place)
    return Fitted(network, best, tuple(stages), (*before.rows, *recorded.rows), dict(before.finders) | dict(recorded.finders))


def from_run(folder: Path, net: Predictor) -> Fitted:
    """Return the network of a finished run with what the run recorded, as if its stages had been fitted one by one.

    Args:
        folder: the run folder.
        net: its final network, or one of its snapshots, with which no best state is known.
    """
    recorded, network = read(folder), NetworkState(net.params, net.stats, net.size)
    stages = tuple(recorded.summary["stages"]) if recorded.summary else ()
    scores = [Score.of(row) for row in recorded.rows if row["kind"] == "eval"]
    kept, best = [i for i, stage in enumerate(stages) if stage["kept"]], None
    if net.experiment.keep_best and not net.name and scores and kept:
        last = stages[kept[-1]]
        score = Score(cast(float, last["valid_accuracy"]), cast(float, last["valid_loss"]))
        best = Best(score, network, kept[-1], last["cycles"] - 1, max(score.accuracy for score in scores if math.isfinite(score.loss)))
    return Fitted(network, best, stages, tuple(recorded.rows), recorded.finders)


def _interrupted(
    context: RunContext, plan: StagePlan, network: NetworkState, stages: list[StageSummary], folder: RunFolder, ui: NullConsole
) -> tuple[NetworkState, Best | None]:
    """Return the network that an interrupted stage leaves, with the best state, and append the stage's summary to `stages`."""
    meta = newest(context, folder)
    if meta is None:  # before the first update: in the finder, or while activations were cached
        raise KeyboardInterrupt
    state, best = restore(context, folder.path, meta, first_state(context.programs, plan, network))
    progress, current = meta.progress(best), context.programs.copy(state.network(plan.size))
    recorder = StageRecorder(context, plan, folder, stages, meta.seconds)
    follow, stage = loop_plan(context, plan, progress.lr), open_stage(context, plan, current, ui)
    if stage.validate and not follow.ends_cycle(meta.step):
        cycle = int(plan.table.cycle[meta.step - 1])
        row = {"kind": "eval", "step": meta.step, "cycle": cycle, "split": "valid", **stage.validate(state)}
        recorder.log(row)
        progress = judge(follow.rules, progress, Score.of(row), cycle, lambda: current, last=True)
    stages.append(recorder.summary(progress._replace(stopped="interrupted")))
    best = progress.best
    return (best.network if best and context.experiment.keep_best else current), best
