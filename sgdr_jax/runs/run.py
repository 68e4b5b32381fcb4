"""One run of an experiment: its stages in order, each from the best network so far, recorded in a run folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from ..core.console import NullConsole
from ..core.errors import Preempted
from ..core.experiment import Experiment
from ..core.plan import StagePlan, as_csv, as_text
from ..core.serialization import config_hash, to_json
from ..core.state import NetworkState
from ..core.validation import require
from ..distributed.compilation_cache import compiled
from ..distributed.hosts import is_leader, is_multi_host, on_leader, require_same, run_on_all_hosts
from ..distributed.memory import device_memory
from ..distributed.preemption import stoppable
from ..train import batch_norm
from ..train.context import RunContext, prepare
from ..train.find_lr import choose_lr
from ..train.loop import StageCallbacks, fit
from ..train.model_selection import Best, StageProgress
from ..train.stage import first_state, loop_plan, open_stage
from ..train.stage_inputs import stage_batches
from . import finalize, refit
from .compile_ahead import ahead, rehearsals
from .data_index import check_data, data_index, write_index
from .folder import RunFolder, check_run, open_run, read_summary
from .null_folder import NullRunFolder
from .preflight import check_disk
from .recorder import StageRecorder, data_record, duplicate_notes
from .records import CompiledRecord, RunSummary, StageSummary, undone_verdict
from .resume import CheckpointMeta, StageStart, check_weights, newest, restore
from .retry import persistently


def run(
    experiment: Experiment,
    folder: str | Path,
    *,
    resume: bool = False,
    commit: str | None = None,
    ui: NullConsole | None = None,
    compile_ahead: bool | None = None,
    prepared: Callable[[Experiment], RunContext] | None = None,
    keep_network: bool = True,
) -> RunSummary:
    """Run an experiment from data to final figures and record everything in a run folder.

    Args:
        experiment: what to run.
        folder: the run folder; new, or that of this experiment with `resume`.
        resume: continue from the newest good checkpoint; the figures are those of an uninterrupted run, bit for bit.
        commit: recorded in environment.json, see `environment.git_commit`.
        ui: progress bars and notes; silent by default.
        compile_ahead: whether to compile the next stages while one trains; None decides by the device.
        prepared: returns the run's context in place of `train.context.prepare`, which shares data and programs among runs.
        keep_network: whether to save the final network.

    Returns:
        The summary, as saved in summary.json.

    Raises:
        InputError: for bad input, before anything is written where possible.

    Example:
        >>> import sgdr_jax
        >>> summary = sgdr_jax.run(experiment, "runs/flowers")  # doctest: +SKIP
        >>> print(summary["valid"]["accuracy"], summary["valid"]["tta_accuracy"])  # doctest: +SKIP
    """
    ui, began, compiled_before = ui or NullConsole(), time.perf_counter(), compiled()
    begun = on_leader(lambda: check_run(folder, to_json(experiment), config_hash(experiment), resume=resume))
    if resume and (finished := on_leader(lambda: read_summary(folder))):
        ui.say("this run has already finished")
        return finished
    context = prepared(experiment) if prepared else prepare(experiment, ui)
    require_same("the experiments", config_hash(experiment))
    if begun:
        on_leader(lambda: check_weights(folder, context.loaded.record()))
        _check_data(folder, context, ui)
    loading = time.perf_counter() - began
    on_leader(lambda: check_disk(context, Path(folder), ui, keep_network=keep_network))
    with _open(folder, context, commit, resume=resume) as opened:
        ui.say(f"run folder: {folder}")
        network, stages = run_stages(context, opened, ui, resume=resume, compile_ahead=compile_ahead)
        final = _refit(context, stages, opened, ui, commit) if experiment.refit else network
        if keep_network:
            finalize.keep(context, final, opened)
        summary = finalize.evaluate(context, {"valid": network, "test": final}, stages, opened, stoppable(ui, context.leave))
        summary["times"] = {"load": loading} | summary["times"]
        summary["compiled"] = CompiledRecord(**(compiled() - compiled_before).record())
        if memory := device_memory(context.programs.devices):
            summary["device_memory"] = {"peak": memory.peak, "limit": memory.limit}
        summary["seconds"] = time.perf_counter() - began
        if opened.resumed:
            summary["resumed"] = True
        opened.write_summary(summary)
    return summary


def run_stages(
    context: RunContext, folder: RunFolder, ui: NullConsole, *, resume: bool, compile_ahead: bool | None
) -> tuple[NetworkState, list[StageSummary]]:
    """Run all stages, or those that are left; return the best network (the last one without `keep_best`) and the stages' summaries."""
    folder.write_plan(as_text(context.plan), as_csv(context.plan))
    folder.write_rejected(context.data.bad)
    if is_leader():
        record = data_record(context.data)
        folder.write_data(record)
        for note in duplicate_notes(record):
            ui.say(note)
        if not folder.resumed:
            write_index(folder.path, data_index(context.data))
    meta = on_leader(lambda: newest(context, folder)) if resume else None
    checkpoint = CheckpointMeta(*meta) if meta else None
    network, best = context.network, None
    finished = list(checkpoint.stages) if checkpoint else []
    plans = context.plan.stages[checkpoint.stage if checkpoint else 0 :]
    with ahead(rehearsals(context, plans, compile_ahead)) as wait_compiled:
        for plan in plans:
            wait_compiled(plan.index)
            attempt = partial(run_stage, context, network=network, best=best, finished=finished, folder=folder, ui=ui)
            network, best = persistently(attempt, context, plan, StageStart(checkpoint), folder, ui)
            checkpoint = None
        wait_compiled("evaluation")
    return network, finished


def run_stage(
    context: RunContext,
    plan: StagePlan,
    network: NetworkState,
    best: Best | None,
    start: StageStart,
    finished: list[StageSummary],
    folder: RunFolder,
    ui: NullConsole,
) -> tuple[NetworkState, Best | None]:
    """Run one stage from a network, or from a checkpoint within the stage, and append its summary to `finished`.

    Returns:
        (network to go on with, best state of the run so far or None without validation images).
    """
    _stop_together(context, plan)
    ui.say(f"{plan.stage.name}: {plan.steps} update{'s' * (plan.steps > 1)} at {plan.size_text} px, trains {', '.join(plan.trained)}")
    checkpoint = start.checkpoint
    recorder = StageRecorder(context, plan, folder, finished, checkpoint.seconds if checkpoint else 0.0)
    stoppable_ui = stoppable(ui, context.leave)
    copy, state, first, progress = context.programs.copy, None, start.step, StageProgress(best)
    if checkpoint:
        state, best = restore(context, folder.path, checkpoint, first_state(context.programs, plan, network))
        network, progress = copy(state.network(network.size)), checkpoint.progress(best)
    elif plan.stage.recalibrate:
        network, drift = batch_norm.recalibrate_for(context, plan, network, stoppable_ui)
        folder.append({"kind": "bn", "stage": plan.stage.name, "step": 0, "drift": drift})
    progress = progress._replace(lowered=start.lowered)
    stage = open_stage(context, plan, network, stoppable_ui, recorder.log)
    _stop_together(context, plan)
    if not checkpoint:
        lr, curve = choose_lr(context, plan, stage, _lr_before(context, plan, finished), stoppable_ui)
        progress = progress._replace(lr=lr)
        if curve:
            folder.write_finder(plan.stage.name, dataclasses.asdict(curve))
    _stop_together(context, plan)
    state = state or stage.state
    stage = stage._replace(state=state)  # After a resume its own fresh state would take memory throughout.
    if first < plan.steps and not progress.stopped:
        with ui.bar(plan.stage.name, plan.steps - first) as tick:
            callbacks = StageCallbacks(
                update=stage.update,
                validate=stage.validate,
                copy_network=lambda state: copy(state.network(plan.size)),
                log=recorder.log,
                save=recorder.save,
                tick=lambda loss: tick(1, note=f"loss {loss:.3f}"),
                keep=recorder.keep,
                leave=context.leave,
            )
            batches = stage_batches(context, plan, first, plan.steps, with_images=False)
            state, progress = fit(state, progress, loop_plan(context, plan, progress.lr), callbacks, batches, first)
    best = progress.best
    undone = context.experiment.keep_best and best is not None and best.stage != plan.index
    recorder.keep_average(state, undone)
    finished.append(on_leader(lambda: recorder.summary(progress)))
    _say_result(finished[-1], "mAP" if context.data.multi_label else "accuracy", ui)
    if not context.experiment.keep_best or best is None:
        return copy(state.network(plan.size)), best
    if undone:
        verdict = undone_verdict(context.experiment.leeway)
        ui.say(f"  {verdict} than stage {context.experiment.stages[best.stage].name!r} on the validation images: undone")
    return copy(best.network), best


def _lr_before(context: RunContext, plan: StagePlan, finished: Sequence[StageSummary]) -> Sequence[float]:
    """Return the rates of the stage before, which one with `lr=None` takes over; () for others.

    Raises:
        InputError: that stage has not been trained, as may be in a session.
    """
    if plan.stage.lr is not None:
        return ()
    name = context.experiment.stages[plan.index - 1].name
    rates = [refit.final_rates(stage) for stage in finished if stage["name"] == name]
    fix = f"it takes the rates of stage {name!r}, which has not been trained; train that first, or give rates"
    require(bool(rates), f'stage "{plan.stage.name}": lr', None, fix)
    return rates[-1]


def _stop_together(context: RunContext, plan: StagePlan) -> None:
    """Raise Preempted if a run on several hosts is to stop. All must ask at the same points, so bars do not stop them (`stoppable`)."""
    if is_multi_host() and context.leave():
        raise Preempted(f"stopped before the updates of stage {plan.stage.name!r}; the same command with --resume goes on")


def _say_result(stage: StageSummary, score: str, ui: NullConsole) -> None:
    loss, accuracy, stopped = stage["valid_loss"], stage["valid_accuracy"], stage["stopped"]
    result = "trained" if loss is None else f"validation loss {loss:.4f}, {score} {accuracy:.4f}"
    skipped = f"; {n} of {stage['steps']} updates skipped" if (n := stage.get("skipped")) else ""
    ui.say(f"  {result}" + (f"; stopped: {stopped}" if stopped else "") + skipped)


def _refit(context: RunContext, stages: list[StageSummary], folder: RunFolder, ui: NullConsole, commit: str | None) -> NetworkState:
    """Train the network anew on the training and validation images, as the stages turned out best; its run folder is RUN/refit."""
    ui.say("refit: training anew on the training and validation images together, with the choices of the first training")
    refit_context = prepare(refit.settled(context.experiment, stages, context.plan.stages), stoppable(ui, context.leave))
    refit_context = refit_context._replace(programs=context.programs, span_stages=context.span_stages)
    refit_context = refit_context._replace(due=context.due, leave=context.leave, accept_new_data=context.accept_new_data)
    if on_leader((folder.path / "refit" / "config.json").exists):
        _check_data(folder.path / "refit", refit_context, ui)
    with _open(folder.path / "refit", refit_context, commit, resume=True) as refit_folder:
        network, finished = run_stages(refit_context, refit_folder, ui, resume=True, compile_ahead=False)
        seconds = sum(stage["seconds"] for stage in finished)
        refit_folder.write_summary(cast(RunSummary, {"stages": finished, "size": network.size, "seconds": seconds}))
    for warning in refit.loss_warnings(refit_context.experiment, finished, stages):
        ui.say(f"  {warning}")
    return network


def _check_data(folder: str | Path, context: RunContext, ui: NullConsole) -> None:
    """Refuse to go on with data that have changed, unless that is accepted; see `data_index.check_data`."""
    for change in on_leader(lambda: check_data(folder, context.data, accept=context.accept_new_data)):
        ui.say(f"going on with changed data: {change}")


def _open(folder: str | Path, context: RunContext, commit: str | None, *, resume: bool) -> RunFolder:
    """Open the run folder on the leading host; the others get one that writes nothing."""

    def open_folder() -> RunFolder:
        if not is_leader():
            return NullRunFolder(folder)
        config, key = to_json(context.experiment), config_hash(context.experiment)
        devices = [str(device) for device in context.programs.devices.mesh.devices.flat]
        weights = context.loaded.record()
        run_folder = open_run(folder, config, key, resume=resume, commit=commit, devices=devices, weights=weights)
        run_folder.track = context.track
        return run_folder

    return run_on_all_hosts(open_folder)
