"""The recipe: stages folded over one network, each from the best state so far, with everything kept in a run folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.plan import StagePlan, as_csv, describe
from ..core.serialization import config_hash, to_json
from ..core.state import NetworkState, TrainState
from ..distributed.compilation_cache import compiled
from ..distributed.hosts import is_leader, is_multi_host, on_leader, require_same, run_on_all_hosts
from ..report import run_plots
from ..schedules.plateau import Lowered
from ..train import batch_norm
from ..train.context import RunContext, prepare
from ..train.find_lr import choose_lr
from ..train.loop import StageCallbacks, fit
from ..train.model_selection import Best, StageProgress
from ..train.stage import first_state, loop_plan, open_stage
from ..train.stage_inputs import stage_batches
from . import checkpoint, ensemble, finalize, refit
from . import resume as memory
from .bystander import NullRunFolder
from .compile_ahead import ahead, rehearse, rehearse_evaluation
from .folder import RunFolder, check_run, open_run, read, read_summary
from .resume import CheckpointMeta


def _stage_summary(book: RunFolder, p: StagePlan, seconds: float, standing: StageProgress, *, keep_best: bool) -> dict[str, Any]:
    """A finished stage in numbers, from the rows it logged; validation figures, where there are any, are those of its best cycle."""
    rows = [row for row in book.rows() if row["stage"] == p.stage.name]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    evals = [row for row in rows if row["kind"] == "eval"]
    if not losses or (standing.best and not evals):
        raise InputError(f"run folder {book.path} has lost its rows of stage {p.stage.name!r} in metrics.jsonl; use another --run")
    best = standing.best if standing.best and standing.best.stage == p.index else None
    highest = max(evals, key=lambda row: (row["accuracy"], -row["loss"]), default={"loss": None, "accuracy": None})
    at = best.score._asdict() if best else highest
    return {
        "name": p.stage.name,
        "size": p.size,
        "epochs": len(losses) / p.steps_per_epoch,
        "steps": len(losses),
        "seconds": seconds,
        "train_loss": float(np.mean(losses[-p.steps_per_epoch :])),
        "valid_loss": at["loss"],
        "valid_accuracy": at["accuracy"],
        "lr": list(standing.lr),
        "kept": best is not None or not evals,
        "cycles": 1 + (best.cycle if best and keep_best else int(p.table.cycle[len(losses) - 1])),
        "stopped": standing.stopped,
    }


def _keeping(
    context: RunContext, p: StagePlan, book: RunFolder, done: list[dict[str, Any]], spent: Callable[[], float]
) -> tuple[Callable[[dict[str, Any]], None], Callable[[TrainState, StageProgress], None]]:
    """How a stage keeps its rows and its checkpoints: the `log` and `save` of `loop.StageCallbacks`."""

    def log(row: dict[str, Any]) -> None:
        extra = {"stage": p.stage.name, "stage_index": p.index, "epoch": row["step"] / p.steps_per_epoch, "seconds": spent()}
        if "lr" in row:
            row = row | {"lr": dict(zip(p.trained, row["lr"], strict=True))}
        book.append(row := row | extra)
        if row["kind"] == "eval":
            context.watch(row)

    def save(state: TrainState, standing: StageProgress) -> None:
        if not context.due():
            return
        b = standing.best
        facts = CheckpointMeta(
            stage=p.index,
            step=int(state.step),
            lr=list(standing.lr),
            lowest=float(standing.lowest) if np.isfinite(standing.lowest) else None,
            stale=standing.stale,
            stopped=standing.stopped,
            best=[b.score.accuracy, b.score.loss, b.stage, b.cycle, b.highest] if b else None,
            seconds=spent(),
            stages=done,
            lowered=list(standing.lowered) if np.isfinite(standing.lowered.best) else None,
        )
        arrays = {"state": state._asdict(), "best": {"params": b.network.params, "stats": b.network.stats} if b else {}}
        folder = book.path / "checkpoints"
        memory.save(folder, checkpoint.step_name(p.index, int(state.step)), arrays, facts._asdict())
        if is_leader():
            checkpoint.prune(folder, keep=2)  # one to go on from, one in case it is damaged

    return log, save


def run_stage(
    context: RunContext,
    p: StagePlan,
    now: NetworkState,
    best: Best | None,
    found: CheckpointMeta | None,
    done: list[dict[str, Any]],
    book: RunFolder,
    ui: NullConsole,
) -> tuple[NetworkState, Best | None]:
    """Runs one stage from `now`, or from a checkpoint of it when `found` speaks of this stage; appends its summary to `done`."""
    began = time.perf_counter() - (found.seconds if found else 0.0)

    def spent() -> float:
        return time.perf_counter() - began

    ui.say(f"[bold]{p.stage.name}[/bold]: {p.steps} updates at {p.size_text} px, trains {', '.join(p.trained)}")
    copy = context.programs.copy
    first, standing, restored = 0, StageProgress(best), None
    if found:
        restored, best = memory.restore(context, book.path, found, first_state(context.programs, p, now.params, now.stats))
        now = copy(restored.network(now.size))
        lowest, lowered = np.inf if found.lowest is None else found.lowest, Lowered(*found.lowered) if found.lowered else Lowered()
        first, standing = found.step, StageProgress(best, lowest, found.stale, found.stopped, lowered)
    elif p.stage.recalibrate:
        now, moved = batch_norm.recalibrate_for(context, p, now, ui)
        book.append({"kind": "bn", "stage": p.stage.name, "step": 0, "drift": moved})
    stage = open_stage(context, p, now.params, now.stats, ui)
    state = restored or stage.state
    lr, curve = (tuple(found.lr), None) if found else choose_lr(context, p, stage, done[-1]["lr"] if done else (), ui)
    if curve:
        book.write_finder(p.stage.name, dataclasses.asdict(curve))
    standing = standing._replace(lr=lr)
    log, save = _keeping(context, p, book, done, spent)
    if first < p.steps and not standing.stopped:
        with ui.bar(p.stage.name, p.steps - first) as tick:
            callbacks = StageCallbacks(
                update=stage.updates,
                validate=stage.validate,
                copy_network=lambda state: copy(state.network(p.size)),
                log=log,
                save=save,
                tick=lambda _, loss: tick(1, note=f"loss {loss:.3f}"),
                keep=partial(_snapshot, context, p, book),
                leave=context.leave,
            )
            batches = stage_batches(context, p, first, p.steps)
            state, standing = fit(state, standing, loop_plan(context, p, lr), callbacks, batches, first)
    if is_leader():
        ensemble.keep_average(book.path, state, p.optimizer, p.size)
    done.append(on_leader(lambda: _stage_summary(book, p, spent(), standing, keep_best=context.experiment.keep_best)))
    judged = f"validation loss {done[-1]['valid_loss']:.4f}, accuracy {done[-1]['valid_accuracy']:.4f}" if stage.validate else "trained"
    ui.say(f"  {judged}" + (f"; stopped: {standing.stopped}" if standing.stopped else ""))
    best = standing.best
    if context.experiment.keep_best and best is not None:
        if best.stage != p.index:
            verdict = "clearly worse" if context.experiment.leeway else "not better"
            ui.say(f"  {verdict} than stage {context.experiment.stages[best.stage].name!r} on the validation images: undone")
        return copy(best.network), best
    return copy(state.network(p.size)), best


def _snapshot(context: RunContext, p: StagePlan, book: RunFolder, state: TrainState, row: dict[str, Any]) -> None:
    """Keeps the network at a cycle's end, where the experiment asks for snapshots."""
    facts = {"stage": p.index, "size": p.size} | {name: row[name] for name in ("cycle", "step", "accuracy", "loss")}
    if is_leader():
        ensemble.keep(book.path, state.params, state.stats, facts, context.experiment.snapshots)


def _stages(
    context: RunContext, book: RunFolder, ui: NullConsole, *, resume: bool, compile_ahead: bool | None
) -> tuple[NetworkState, list[dict[str, Any]]]:
    """Runs all stages, or those that are left; gives the best network, or the last one without `keep_best`, and the stages' summaries."""
    rows = [describe(p) for p in context.plan.stages]
    book.write_plan("\n\n".join("\n".join(f"{k:>20}  {v}" for k, v in row.items()) for row in rows) + "\n", as_csv(context.plan))
    book.write_rejected(context.data.bad)
    newest = on_leader(lambda: memory.newest(context, book)) if resume else None
    found = CheckpointMeta(*newest) if newest else None
    now, best, done = NetworkState(context.params, context.stats, context.plan.largest_size), None, list(found.stages) if found else []
    plans = context.plan.stages[found.stage if found else 0 :]
    with ahead(_rehearsals(context, plans, compile_ahead)) as ready:
        for p in plans:
            ready(p.index)
            now, best = run_stage(context, p, now, best, found, done, book, ui)
            found = None
        ready("evaluation")
    return now, done


def _refitted(context: RunContext, done: list[dict[str, Any]], book: RunFolder, ui: NullConsole, how: dict[str, Any]) -> NetworkState:
    """The network trained once more on every image as the stages turned out best; its own run folder lies in that of the run."""
    ui.say("[bold]refit[/bold]: once more on the training and the held-out images together, as those chose")
    again = refit.settled(context.experiment, done)
    fresh = prepare(again, ui)._replace(due=context.due, leave=context.leave)
    folder = book.path / "refit"
    opened = partial(open_run, folder, to_json(again), config_hash(again), **how | {"resume": True})
    with run_on_all_hosts(opened if is_leader() else partial(NullRunFolder, folder)) as inner:
        network, stages = _stages(fresh, inner, ui, resume=True, compile_ahead=False)
        inner.write_summary({"stages": stages, "size": network.size, "seconds": sum(stage["seconds"] for stage in stages)})
    return network


def run(
    experiment: Experiment,
    folder: str | Path,
    *,
    resume: bool = False,
    experiment_file: str | Path | None = None,
    ui: NullConsole | None = None,
    compile_ahead: bool | None = None,
    prepared: Callable[[Experiment], RunContext] | None = None,
    pictures: bool = True,
    network: bool = True,
) -> dict[str, Any]:
    """Runs an experiment from data to final numbers, keeping everything in a run folder.

    Args:
        experiment: what to run.
        folder: the run folder; must be new, or hold this experiment when `resume` is set.
        resume: go on from the newest good checkpoint in the folder; ends with the numbers of an uninterrupted run.
        experiment_file: named in environment.json.
        ui: progress bars; silent by default.
        compile_ahead: compile the next stages while one trains; None does where the device is not the processor that compiles.
        prepared: makes the experiment ready to run, in place of `prepare`.
        pictures: draw the run's pictures at its end.
        network: keep the final network.

    Returns:
        The summary that is also kept as summary.json: stages, validation and test figures, seconds, what was
        compiled meanwhile by this process.

    Raises:
        InputError: for bad input, before anything is written where possible.
    """
    ui, began, before = ui or NullConsole(), time.perf_counter(), compiled()
    held = on_leader(lambda: check_run(folder, to_json(experiment), config_hash(experiment), resume=resume))
    if resume and (finished := on_leader(lambda: read_summary(folder))):
        ui.say("this run has finished already")
        return finished
    context = prepared(experiment) if prepared else prepare(experiment, ui)
    require_same("the experiments", config_hash(experiment))
    if held:
        on_leader(lambda: _check_weights(folder, context.loaded.record()))
    loaded = time.perf_counter() - began
    names = [str(device) for device in context.programs.devices.mesh.devices.flat]
    how: dict[str, Any] = {"resume": resume, "experiment_file": experiment_file, "devices": names, "weights": context.loaded.record()}
    opened = partial(open_run, folder, to_json(experiment), config_hash(experiment), **how)
    with run_on_all_hosts(opened if is_leader() else partial(NullRunFolder, folder)) as book:
        chosen, done = _stages(context, book, ui, resume=resume, compile_ahead=compile_ahead)
        final = _refitted(context, done, book, ui, how) if experiment.refit else chosen
        if network:
            finalize.keep(context, final, book)
        summary = finalize.conclude(context, {"valid": chosen, "test": final}, done, book, ui, loaded)
        summary["compiled"] = (compiled() - before)._asdict()
        summary["seconds"] = time.perf_counter() - began
        book.write_summary(summary)
        if pictures and is_leader():
            run_plots.plot_run(book.path)
    return summary


def _check_weights(folder: str | Path, now: dict[str, Any]) -> None:
    """Refuses to go on with a run that began with another weights file, or with other mean and std of the images."""
    was = read(folder).environment.get("weights") or {}
    for name in ("sha256", "mean", "std"):
        if json.dumps(was.get(name)) != json.dumps(now.get(name)):
            change = f"{name} {was.get(name)} of {was.get('origin')}, now {now.get(name)} of {now.get('origin')}"
            raise InputError(f"run folder {folder} began with other weights ({change}); give the same file, or use another --run")


def _rehearsals(context: RunContext, plans: Sequence[StagePlan], wanted: bool | None) -> dict[Any, Callable[[], None]]:
    """What to compile ahead: every stage after the first, which begins at once, and the final evaluation."""
    # A processor that trains has no time to spare for compiling: there it makes nothing faster.
    if not ((jax.default_backend() != "cpu" and not is_multi_host()) if wanted is None else wanted):
        return {}
    stages = {p.index: partial(rehearse, context, p) for p in plans[1:]}
    return stages | {"evaluation": partial(rehearse_evaluation, context, plans[-1].size)}
