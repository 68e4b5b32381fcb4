"""The command line: words to commands, and what each command does; `options` has what can be said to them."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.console import Console, NullConsole
from ..core.errors import InputError, Preempted, did_you_mean
from ..core.experiment import Experiment
from ..core.learning_rates import Find
from ..core.plan import Plan, as_csv, describe, plan
from ..core.serialization import config_hash
from ..core.validation import require
from ..data.load import canvas_side
from ..data.placement import forecast
from . import experiment_file
from .options import (
    ALONE,
    WITH_EXPERIMENT,
    CompareCommand,
    DataCommand,
    EvalCommand,
    FindLrCommand,
    ModelsCommand,
    NewCommand,
    PlanCommand,
    PredictCommand,
    PrepareCommand,
    ShowBatchCommand,
    TrainCommand,
)
from .parsing import parse, take_rates, take_slurm

USAGE = """usage: sgdr-jax COMMAND …

  new      FOLDER [--out FILE] [--budget EPOCHS]
                                    an experiment file for your images: everything chosen, with the reasons
  data     FILE [options]           what the data are: counts, sizes, duplicates, unreadable files
  plan     FILE [options]           what an experiment would do, stage by stage
  train    FILE [--run DIR] [--resume] [options]
                                    run an experiment
  launch   local|slurm|tpu|k8s FILE [options]
                                    run an experiment as several processes: here, or on a cluster
  sweep    FILE [--dir DIR] [--dry-run] [--only 3,7] [--workers N] [--store URL] [--launch slurm] [options]
                                    run a sweep: an experiment along axes of its fields, or a search
  find-lr  FILE [--stage N] [options]
                                    the learning-rate finder, as table and picture
  show-batch FILE [--stage N] [options]
                                    a picture of augmented training images and test-time views
  eval     DIR [--split test]       evaluate a finished run
  predict  PATHS… --run DIR         classes of image files, as CSV
  compare  DIR [--results FILE]     what a sweep has found: arms beside a baseline, with intervals and tests
  prepare  NAME                     download and prepare a set of the TensorFlow Datasets catalogue
  models   [NAME]                   the networks, or the blocks of one

FILE is an experiment file; its fields are the options, such as --seed 1 --stages.1.lr 0.01 --data.root photos.
--stages.N.lr takes one rate, or one for each trained layer group, and then replaces the finder.
`sgdr-jax COMMAND FILE --help` lists them all."""


def main(argv: list[str] | None = None) -> None:
    """Runs one command line; exits with 2 after one line on bad input, with 130 when interrupted, with 75 when a run has made room."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × shows ? instead of failing
    try:
        _dispatch(list(sys.argv[1:] if argv is None else argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Preempted as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.code) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        raise SystemExit(2) from None


def _dispatch(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if argv else 2)
    name, rest = argv[0], argv[1:]
    if name == "launch":
        from .commands.launch import launch

        return launch(rest, Console())
    if name in ALONE:
        command = parse(ALONE[name], rest, f"sgdr-jax {name}")
    elif name in WITH_EXPERIMENT:
        if not rest or rest[0].startswith("-"):
            if rest and rest[0] in ("-h", "--help"):
                print(f"usage: sgdr-jax {name} FILE [options]\n\n{WITH_EXPERIMENT[name].__doc__}")
                print(f"`sgdr-jax {name} FILE --help` lists all options.")
                return
            raise InputError(f"sgdr-jax {name} needs an experiment file first: sgdr-jax {name} FILE [options]")
        kind = WITH_EXPERIMENT[name]
        base = experiment_file.load_sweep(rest[0]).base if name == "sweep" else experiment_file.load_experiment(rest[0])
        slurm, others = take_slurm(rest[1:]) if name == "sweep" else (None, rest[1:])
        experiment, words = take_rates(base, others)
        command = parse(kind, words, f"sgdr-jax {name} {rest[0]}", kind(experiment=experiment))
    else:
        raise InputError(f"{name!r} is no command; {did_you_mean(name, [*WITH_EXPERIMENT, *ALONE, 'launch'], 1)}sgdr-jax --help lists them")
    if name == "sweep":
        from .commands.sweep import sweep

        return sweep(command, rest[0], others, Console(), slurm)
    experiments = {"data": _data, "plan": _plan, "train": _train, "find-lr": _find_lr, "show-batch": _show_batch}
    run = experiments | {"new": _new, "eval": _eval, "predict": _predict, "compare": _compare, "prepare": _prepare, "models": _models}
    run[name](command, rest[0] if rest else "")


def _show_plan(made: Plan, ui: Console) -> None:
    from ..report.run_tables import plan_table

    ui.say(plan_table([describe(p) for p in made.stages]))


def _new(command: NewCommand, _: str) -> None:
    from .commands.new import new

    new(command, Console())


def _prepare(command: PrepareCommand, _: str) -> None:
    from ..datasets import tfds

    Console().say(f"{command.name}: {tfds.prepare(command.name, command.data_dir)}")


def _data(command: DataCommand, _: str) -> None:
    from ..data.load import load_for
    from ..data.summary import summarize
    from ..datasets import ImageFolder
    from ..report.run_tables import dataset_tables

    experiment, ui = command.experiment, Console()
    _check_output(command.rejected)
    source = experiment.data.open()
    made = plan(experiment, source.sizes["train"])
    found = summarize(source, load_for(experiment, source, made.largest_size, ui, max_bad_share=1))
    for part in dataset_tables(found, source.classes):
        ui.say(part)
    if isinstance(experiment.data, ImageFolder) and (rest := experiment.data.ignored_files(source)):
        ui.say(f"not part of the set: {rest}")
    if command.rejected:
        command.rejected.write_text("".join(f"{name}\t{why}\n" for name, why in found.unreadable), "utf-8", "surrogateescape")


def _plan(command: PlanCommand, _: str) -> None:
    experiment, ui = command.experiment, Console()
    _check_output(command.csv)
    sizes = experiment.data.open().sizes if command.train_size is None else {"train": command.train_size}
    made = plan(experiment, sizes["train"])
    ui.say(f"{experiment.name} ({config_hash(experiment)}): {sizes['train']:,} training images, batches of {experiment.batch_size}")
    _show_plan(made, ui)
    if experiment.refit:
        ui.say("refit: the stages that are kept once more, on the training and the validation images together")
    ui.say(forecast(experiment.images, sum(sizes.values()), canvas_side(experiment.canvas, made.largest_size)))
    if command.csv:
        command.csv.write_text(as_csv(made), encoding="utf-8")
        ui.say(f"every update: {command.csv}")


def _train(command: TrainCommand, file: str) -> None:
    require(bool(command.run) or not command.resume, "--resume", True, "name the run folder with --run DIR")
    from ..distributed import hosts
    from ..distributed.preemption import handle_signals

    hosts.initialize(**vars(command.hosts))
    with hosts.exit_together(), hosts.watch_hosts(), handle_signals() as leave:
        _train_here(command, file, Console() if hosts.is_leader() else NullConsole(), hosts.on_leader, leave)


def _train_here(command: TrainCommand, file: str, ui: NullConsole, on_leader: Any, leave: Callable[[], bool]) -> None:
    from ..report import run_plots
    from ..report.run_tables import snapshots_table, summary_table, views_table
    from ..runs import run as recipe
    from ..train.context import prepare

    if command.per_device is not None:
        command = _spread_out(command, command.per_device, ui)
    folder = Path(on_leader(lambda: str(command.run or Path("runs") / f"{command.experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}")))
    ui.say(f"run folder: {folder}")

    def prepared(experiment: Experiment) -> Any:
        return prepare(experiment, ui)._replace(leave=leave)

    try:
        summary = recipe.run(command.experiment, folder, resume=command.resume, experiment_file=file, ui=ui, prepared=prepared)
    except (KeyboardInterrupt, Preempted):
        ui.say(f"to go on from the newest checkpoint, repeat the command with --run {folder} --resume")
        raise
    on_leader(lambda: run_plots.plot_run(folder))
    ui.say(summary_table(summary))
    for split, rows in summary.get("tta", {}).items():
        ui.say(views_table(split, rows))
    if rows := summary.get("snapshots"):
        ui.say(snapshots_table(rows))
    ui.say(f"run folder: {folder}")


def _spread_out(command: TrainCommand, each: int, ui: NullConsole) -> TrainCommand:
    """The command with the global batch that so many images on each device make, and rates by its rule."""
    from ..distributed.mesh import devices
    from ..runs.lr_scaling import growth, rescaled

    was, count = command.experiment.batch_size, devices(command.experiment.parallel).count
    factor = each * count / was
    ui.say(
        f"global batch {each * count} = {count} devices of {each} images, {factor:g} times the experiment's {was}: "
        f"given rates × {growth(command.lr_rule, factor):g} (rule {command.lr_rule})"
    )
    return dataclasses.replace(command, experiment=rescaled(command.experiment, each * count, command.lr_rule))


def _find_lr(command: FindLrCommand, _: str) -> None:
    from ..report.run_plots import plot_lr_finder
    from ..report.run_tables import finder_table
    from ..train.context import prepare
    from ..train.find_lr import find_lr
    from ..train.stage import open_stage

    ui, stages = Console(), command.experiment.stages
    _check_output(command.out)
    _check_picture(command.out)
    if not 0 <= command.stage < len(stages):
        raise InputError(f"--stage is {command.stage}; the stages are {', '.join(f'{i} ({s.name})' for i, s in enumerate(stages))}")
    context = prepare(command.experiment, ui)
    p = context.plan.stages[command.stage]
    find = p.stage.lr if isinstance(p.stage.lr, Find) else Find()
    if not isinstance(p.stage.lr, Find):
        ui.say(f"{p.stage.name} has rates of its own, {p.stage.lr}: train keeps those, and this is what Find() would choose")
    if command.rule:
        find = dataclasses.replace(find, rule=command.rule)
    stage = open_stage(context, p, context.network, ui)
    alone = p.trained if command.each and len(p.trained) > 1 else ()
    curves = {"": find_lr(context, p, stage, find, ui)} | {group: find_lr(context, p, stage, find, ui, group) for group in alone}
    ui.say(finder_table(curves, p.trained))
    for group, curve in curves.items():
        ui.say(f"{group or 'all'}: {curve.verdict}; {curve.confidence:.0%} of {curve.orders} orders agree within a factor of 3")
        name = f"{p.stage.name}, {group}" if group else p.stage.name
        out = command.out.with_stem(f"{command.out.stem}-{group}") if group else command.out
        ui.say(f"picture: {plot_lr_finder(dataclasses.asdict(curve) | {'stage': name}, out)}")


def _show_batch(command: ShowBatchCommand, _: str) -> None:
    from ..report.batch_preview import preview_batch
    from ..report.run_plots import plot_images

    _check_output(command.out)
    _check_picture(command.out)
    ui, shown = Console(), preview_batch(command.experiment, command.stage, command.count)
    plot_images(shown.titles, shown.tiles, shown.captions, command.out)
    for name, reason in shown.bad:
        ui.say(f"left out, since it cannot be read: {name}: {reason}")
    ui.say(f"picture: {command.out}")


def _eval(command: EvalCommand, _: str) -> None:
    from ..evaluation.calibration import ClassResult, class_results
    from ..evaluation.evaluate import calibration_results
    from ..report.run_tables import classes_table, views_table
    from ..runs.predictor import default_split, evaluate_split, open_predictor

    ui = Console()
    _check_output(command.out)
    _check_output(command.classes)
    _load_classes(command.experiment)
    net = open_predictor(command.run, command.network)
    split = command.split or default_split(net)
    found = evaluate_split(net, split, command.tta_views, ui)
    for name, value in found.views.measures.items():
        ui.say(f"{split} {name:<14} {value:.4f}")
    if len(found.views.by_count) > 1:
        ui.say(views_table(split, found.views.by_count))
    results = class_results(found.views.probabilities, found.labels)
    ui.say(classes_table(net.classes, results))
    kinds = ("plain", "tta")[: 1 + (found.views.views > 1)]
    if all(kind in net.temperatures for kind in kinds):
        for kind, then in calibration_results(found.views, found.labels, net.temperatures).items():
            ui.say(f"{split} {kind:<6} at the temperature {then['temperature']:.3f}: ece {then['ece']:.4f}, loss {then['loss']:.4f}")
    if command.classes:
        names = [name for name in ClassResult._fields if name != "confused_with"]
        table = [[name, *(f"{getattr(row, field):.6g}" for field in names)] for name, row in zip(net.classes, results, strict=True)]
        command.classes.write_text(_csv(["class", *names], table), "utf-8", "surrogateescape")
        ui.say(f"classes: {command.classes}")
    if command.out:
        true = [net.true_label(label) for label in found.labels]
        rows = zip(found.names, true, found.views.probabilities, found.views.disagreement, strict=True)
        table = [[name, label, *_prediction(net, row, share)] for name, label, row, share in rows]
        header = ["name", "true", "label", "probability", "disagreement", *net.classes]
        command.out.write_text(_csv(header, table), "utf-8", "surrogateescape")
        ui.say(f"predictions: {command.out}")


def _predict(command: PredictCommand, _: str) -> None:
    from ..runs.predictor import expand, open_predictor, predict

    _check_output(command.out)
    require(bool(command.paths), "paths", "", "name image files, or folders of them")
    _load_classes(command.experiment)
    paths = expand(command.paths)
    net = open_predictor(command.run, command.network)
    result = predict(net, paths, command.tta_views, Console() if command.out else None, calibrated=command.calibrated)
    for path, reason in result.bad:
        print(f"left out {path}: {reason}", file=sys.stderr)
    if not result.paths:
        raise InputError(f"none of the {len(paths)} files could be read as an image")
    shares = result.disagreement if result.views > 1 else [None] * len(result.paths)
    header = ["path", "label", "probability", *["disagreement"] * (result.views > 1), *net.classes]
    rows = zip(result.paths, result.probabilities, shares, strict=True)
    text = _csv(header, [[path, *_prediction(net, row, share)] for path, row, share in rows])
    if command.out:
        command.out.write_text(text, encoding="utf-8", errors="surrogateescape")
    else:
        sys.stdout.write(text)


def _compare(command: CompareCommand, _: str) -> None:
    from .commands.compare import compare

    compare(command, Console())


def _prediction(net: Any, row: Any, disagreement: float | None) -> list[str]:
    """Label, probability, disagreement of the views where there are several, and the probability of each class."""
    return [net.label(row), f"{row.max():.4f}", *([] if disagreement is None else [f"{disagreement:.3f}"]), *(f"{p:.6f}" for p in row)]


def _csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _check_picture(path: Path) -> None:
    require(path.suffix in (".png", ".svg", ".pdf"), "--out", str(path), "use a name that ends in .png, .svg or .pdf")


def _models(command: ModelsCommand, _: str) -> None:
    from ..models.base import networks

    _check_output(command.csv)
    require(command.size is None or 32 <= command.size <= 4096, "--size", command.size, "use 32…4096 pixels")
    known = {name.lower(): name for name in networks()}
    names = [name for lower, name in known.items() if lower == command.name.lower()]
    names = names or [name for lower, name in known.items() if command.name.lower() in lower]
    if not names:
        raise InputError(f"{command.name!r} is no network; {did_you_mean(command.name, known.values())}see sgdr-jax models")
    from ..models import summary as measure

    kinds = {name: networks()[name]() for name in names}
    if len(kinds) == 1:
        rows = [block._asdict() for block in measure.blocks(kinds[names[0]], command.size)]
    else:
        rows = [measure.row(name, kind, command.size) for name, kind in kinds.items()]
    Console().say(measure.table(rows))
    if command.csv:
        with command.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _check_output(path: Path | None) -> None:
    """Refuses a file that could not be written, before any work is done."""
    if path is not None:
        require(path.parent.is_dir() and not path.is_dir(), "output file", str(path), "name a file in a folder that exists")


def _load_classes(file: Path | None) -> None:
    """Runs an experiment file for the classes that it defines, so that its run folders can be read."""
    if file is not None:
        experiment_file.load_experiment(file)
