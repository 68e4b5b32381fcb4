"""Notebook interface: an experiment, with the functions behind the command line as methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .core.console import NullConsole
from .core.errors import InputError, Preempted
from .core.experiment import Experiment, Stage
from .core.field_docs import Documented
from .core.notebook import Shown, console, without_private_arguments
from .core.paths import run_folder
from .core.validation import require

if TYPE_CHECKING:
    import numpy as np

    from .core.plan import Plan
    from .core.state import Tree
    from .data.decode import ImagesLike
    from .data.summary import DatasetSummary
    from .report.style import Figure
    from .runs.export.write import Exported, ExportFormat
    from .runs.fitting import Fitted
    from .runs.predictor import Evaluation, Predictions, Predictor
    from .runs.records import RunSummary
    from .runs.trackers.tracking import TrackerName
    from .train.context import RunContext
    from .train.lr_curve import LrCurve


@without_private_arguments
@dataclass(frozen=True)
class Session(Documented):
    """An experiment and its network so far; no method changes it, `fit` and `run` return a new one.

    Each method calls the functions that the command of its name calls, so the numbers are the same. Results show themselves in a
    notebook and hold their data in `value`. Images are decoded and programs compiled once, and shared with the sessions that follow; a
    training begins with a look whether the data have changed.

    Example:
        >>> import sgdr_jax
        >>> session = Session(sgdr_jax.fine_tune("photos"))  # doctest: +SKIP
        >>> session.show_batch()  # doctest: +SKIP
        >>> session = session.run("runs/photos")  # doctest: +SKIP
        >>> session.predict("more").value.labels  # doctest: +SKIP
    """

    experiment: Experiment
    """The experiment."""
    folder: Path | None = field(default=None, kw_only=True)
    """Run folder of the network; None for one of `fit`, or none."""
    network: str = field(default="", kw_only=True)
    """Name of a snapshot or of an average of weights in the run folder; "" for the final network."""
    ui: NullConsole = field(default_factory=console, kw_only=True, repr=False, compare=False)
    """Shows notes and progress bars; `core.console.NullConsole()` shows nothing."""
    _prepared: RunContext | None = field(default=None, kw_only=True, repr=False, compare=False)
    _fitted: Fitted | None = field(default=None, kw_only=True, repr=False, compare=False)
    _opened: tuple[Path, str, Predictor] | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(isinstance(self.experiment, Experiment), "experiment", self.experiment, "give an Experiment, such as fine_tune(FOLDER)")
        if self.folder is not None:
            object.__setattr__(self, "folder", run_folder(self.folder))

    def __repr__(self) -> str:
        done = f"network {self.network!r} of the " * bool(self.network)
        done += f"run in {self.folder}" if self.folder else f"{len(self._fitted.stages)} stages fitted" if self._fitted else "not trained"
        return f"Session({self.experiment.name!r}, {len(self.experiment.stages)} stages, {done})"

    def plan(self) -> Shown[Plan]:
        """Show what the experiment would do, stage by stage, without training, as `sgdr-jax plan` does."""
        from .report.run_tables import plan_parts

        planned, parts = plan_parts(self.experiment, self.experiment.data.open().sizes)
        return Shown(planned, tuple(parts))

    def data(self) -> Shown[DatasetSummary]:
        """Describe the data, as `sgdr-jax data` does: counts, sizes, duplicates, unreadable files."""
        from .report.run_tables import data_parts

        summary, parts = data_parts(self.experiment, self.ui)
        return Shown(summary, tuple(parts))

    def show_batch(self, stage: int | str = 0, count: int = 8) -> Figure:
        """Draw training images with their labels: plain, as a stage augments them, and as test-time views.

        Args:
            stage: index or name of the stage.
            count: number of images.
        """
        from .report.batch_preview import preview_batch
        from .report.run_plots import draw_images

        preview = preview_batch(self.experiment, stage, count)
        for name, reason in preview.bad:
            self.ui.say(f"left out, since it cannot be read: {name}: {reason}")
        return draw_images(preview.titles, preview.tiles, preview.captions)

    def find_lr(
        self, stage: int | str | None = None, rule: Literal["combined", "valley", "steep", "minimum", "slide"] | None = None
    ) -> Shown[LrCurve]:
        """Run the learning-rate finder for a stage, on the network so far, which stays as it is.

        Args:
            stage: index or name of the stage; None for the first whose head is not solved.
            rule: reads the rate off the curve; None for that of the stage.
        """
        from .report.run_plots import draw_lr_finder
        from .report.run_tables import finder_table, finder_verdict
        from .train.find_lr import stage_curves, stage_to_search

        context = self._today()
        planned = context.plan.stages[stage_to_search(self.experiment, stage)]
        curves = stage_curves(context, planned, self._state.network, self.ui, rule)
        curve, name = curves[""], planned.stage.name
        figure = draw_lr_finder(dataclasses.asdict(curve) | {"stage": name}).get_figure(root=True)
        return Shown(curve, (f'stage "{name}"', figure, finder_table(curves, planned.trained), finder_verdict("", curve)))

    # ---- training ----

    def fit(self, stage: int | str | Stage) -> Session:
        """Train one stage from the network so far, and return the session with the network that it leaves.

        Stages in order give the numbers of `run`. Interrupted (Ctrl-C, the stop button), the stage ends after the current update and the
        better of the network then and the best before is kept; a second interrupt discards it, as does one before the first update.

        Args:
            stage: index or name of a stage of the experiment, or another stage, which is added to it.

        Raises:
            InputError: the network is that of a run with `refit`, which has trained on the validation images; or it has been trained, and
                the classes have changed since.
        """
        from .runs.fitting import fit_stage

        refitted = bool(self.folder and self._predictor.experiment.refit and not self.network)
        fix = "the run's network has trained on the validation images too, which cannot judge another stage; run with refit=False first"
        require(not refitted, "refit", refitted, fix)
        session = self
        if isinstance(stage, Stage):
            experiment = replace(self.experiment, stages=(*self.experiment.stages, stage))
            session, stage = replace(self, experiment=experiment, _fitted=self._state), len(self.experiment.stages)
        before, state = session._context, session._state
        known = list(self._predictor.classes if state.stages else before.data.classes)
        context = session._today()
        now = list(context.data.classes)
        require(not state.stages or now == known, "classes", now, f"the network was trained on {known}; begin with a new Session")
        if context is not before:
            state = state._replace(best=None)  # which other images have judged
        fitted = fit_stage(context, context.plan.stages[session.experiment.stage_index(stage)], state, self.ui)
        return replace(session, folder=None, network="", _prepared=context, _fitted=fitted, _opened=None)

    def run(self, folder: str | Path | None = None, *, resume: bool = False, track: Sequence[TrackerName] = ()) -> Session:
        """Run all stages from the beginning, record everything in a run folder, and return the session with the final network.

        Args:
            folder: the run folder, which `sgdr-jax` reads too; None for runs/NAME-DATE-TIME.
            resume: go on with an interrupted run; an interrupt (Ctrl-C, the stop button) saves the state first.
            track: trackers that show the figures too, as for `sgdr-jax train --track`: "tensorboard", "wandb", "mlflow".

        Raises:
            KeyboardInterrupt: after an interrupt, when the state is saved.
        """
        import signal
        from contextlib import closing

        from .cli.options import new_run_folder
        from .core.serialization import to_json
        from .distributed.preemption import handle_signals
        from .report.run_plots import plot_run
        from .report.run_tables import result_tables
        from .runs.run import run
        from .runs.trackers.tracking import Tracking

        folder = Path(folder or new_run_folder(self.experiment.name))
        tracking = Tracking(track, folder, self.experiment.name, to_json(self.experiment))
        with closing(tracking), handle_signals((signal.SIGINT,)) as interrupted:

            def prepared(experiment: Experiment) -> RunContext:
                return self._today()._replace(leave=interrupted, track=tracking.row)

            try:
                summary = run(self.experiment, folder, resume=resume, ui=self.ui, prepared=prepared)
            except (KeyboardInterrupt, Preempted):
                self.ui.say(f"interrupted; run({str(folder)!r}, resume=True) goes on from the newest checkpoint")
                raise KeyboardInterrupt from None
            tracking.finish(summary, plot_run(folder))
        for table in result_tables(summary):
            self.ui.say(table)
        return replace(self, folder=folder, network="", _prepared=self._context, _fitted=None, _opened=None)

    # ---- the trained network ----

    def evaluate(self, split: Literal["train", "valid", "test"] | None = None, *, tta: int | None = None) -> Shown[Evaluation]:
        """Evaluate the network on a split, as `sgdr-jax eval` does.

        Args:
            split: the split; None for valid or, after a refit, which trains on the validation images, test.
            tta: number of augmented views beside the plain one; None for that of the experiment, 0 for none.
        """
        from .report.run_tables import evaluation_parts
        from .runs.predictor import default_split, evaluate_split

        net = self._predictor
        name = split or default_split(net)
        result = evaluate_split(net, name, tta, self.ui)
        return Shown(result, tuple(evaluation_parts(name, result, net)))

    def predict(self, images: ImagesLike, *, tta: int | None = None, calibrated: bool = False) -> Shown[Predictions]:
        """Predict the classes of images, as `sgdr-jax predict` does.

        What `evaluate` says of an image is said here too: its random test-time views are drawn by its pixels.

        Args:
            images: files, folders, arrays uint8 [h, w], [h, w, c] or [n, h, w, c], images of Pillow; a list or iterator of these.
            tta: as in `evaluate`.
            calibrated: whether to scale the probabilities by the temperature that the run fitted to its validation images.
        """
        from .data.gather import gather_images
        from .report.run_tables import predictions_table
        from .runs.predictor import predict

        gathered = gather_images(images, self.ui.say, self.experiment.data)
        result = predict(self._predictor, gathered, tta, self.ui, calibrated=calibrated)
        if not result.paths:
            raise InputError(f"none of the {len(gathered)} images could be read; {result.bad[0][0]}: {result.bad[0][1]}")
        left_out = (f"left out {name}: {reason}" for name, reason in result.bad)
        return Shown(result, (predictions_table(result), *left_out))

    def activations(self, images: ImagesLike, group: str) -> np.ndarray:
        """Return what a layer group sees of images: the activations at its input, [n, …]; "head" sees pooled features.

        Args:
            images: as in `predict`.
            group: name of the group.
        """
        from .data.gather import gather_images
        from .runs.predictor import activations

        return activations(self._predictor, gather_images(images, self.ui.say, self.experiment.data), group)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of logits and probabilities."""
        return self._predictor.classes

    @property
    def params(self) -> Tree:
        """Parameters of the network: a tree of arrays, whose top level is keyed by layer group."""
        return self._predictor.params

    @property
    def stats(self) -> Tree:
        """Running batch statistics of the network, a tree as `params`."""
        return self._predictor.stats

    @property
    def apply(self) -> Callable[..., tuple[Any, Tree]]:
        """The network as a pure function for one's own loop: (params, stats, images float 0…1 [b, h, w, c]) → (logits, stats).

        Its other arguments, such as the groups to run, are those of `models.chain.Network.apply`.
        """
        return self._predictor.programs.network.apply

    def report(self, *, split: Literal["valid", "test"] | None = None, maps: int = 0) -> Shown[RunSummary | dict[str, Any]]:
        """Show the results: tables of stages and figures, curves of losses and rates, and the pictures of the finder.

        Of a run it also makes the page that `sgdr-jax report` makes, with mistakes and highest losses.

        Args:
            split: whose mistakes the page shows; None for test where the data have it.
            maps: number of images, those with the highest losses, for which the page maps where the network looks.

        Raises:
            InputError: for a snapshot or an average of weights, of which the run's figures are not; or the run has no such mistakes.
        """
        from .report.run_curves import score_of
        from .report.run_plots import draw_progress
        from .report.run_tables import result_tables
        from .report.write_page import write_page
        from .runs.folder import read

        fix = "the run's results are those of its final network; use load(folder).report(), or evaluate() for this network"
        require(not self.network, "network", self.network, fix)
        if self.folder:
            write_page(self.folder, self.ui, split=split, maps=maps, net=self._predictor)
            recorded = read(self.folder)
            summary, rows, finders = recorded.summary, recorded.rows, recorded.finders
        else:
            fitted, fix = self._trained(), "a page with mistakes is made of a run; leave it out, and use evaluate(split)"
            require(split is None and not maps, "split, maps", (split, maps), fix)
            rows, finders = fitted.rows, fitted.finders
            summary = {"stages": list(fitted.stages), "score": score_of(rows)}
        return Shown(summary, (*result_tables(summary), *draw_progress(rows, finders.values())))

    def export(self, to: ExportFormat, out: str | Path | None = None, *, push: str | None = None) -> Shown[Exported]:
        """Export the network to files that need no sgdr_jax, as `sgdr-jax export` does.

        Args:
            to: "stablehlo", "safetensors" or "onnx".
            out: folder for the files, which must not exist; None for RUN/export/FORMAT, or export/FORMAT without a run.
            push: repository OWNER/NAME of the Hugging Face hub to upload the folder to; None for none.
        """
        from .runs.export.write import export_network

        done = export_network(self._predictor, self.folder, to, out, push)
        return Shown(done, done.lines())

    def save_experiment(self, path: str | Path) -> Path:
        """Write the experiment as a Python file for `sgdr-jax train`, and return its path.

        Raises:
            InputError: the file exists, or the experiment has a class that is defined in the notebook.
        """
        from .cli.experiment_source import save_experiment

        return save_experiment(self.experiment, path)

    # ---- what the methods share ----

    @cached_property
    def _context(self) -> RunContext:
        """The experiment with its data and programs, shared with the session that this one was made from where they fit."""
        from .train.context import prepare, sharing_key

        like = self._prepared
        if like and like.experiment == self.experiment:
            return like
        # A class that a notebook defines again has the same name and fields, so the same key; values of the two are not equal.
        if like and (like.experiment.data, like.experiment.model) != (self.experiment.data, self.experiment.model):
            like = None
        return prepare(self.experiment, self.ui, like if like and sharing_key(like.experiment) == sharing_key(self.experiment) else None)

    def _today(self) -> RunContext:
        """Return the context to train with: with data loaded anew where they have changed on the disk since they were loaded."""
        from .train.context import prepare

        if not (self._prepared or "_context" in self.__dict__):
            return self._context  # which loads them now
        source = self.experiment.data.open()
        if self._context.data.source != source.fingerprint:
            self.ui.say("the data have changed since they were loaded, so they are loaded anew; other images may be held out now")
            self.__dict__["_context"] = prepare(self.experiment, self.ui, source=source)  # in place of what the property keeps
        return self._context

    @property
    def _state(self) -> Fitted:
        """The network to train on: of the stages fitted, of the run, or the one before the first stage."""
        from .runs.fitting import Fitted, from_run

        if self._fitted:
            return self._fitted
        return from_run(Path(self.folder), self._predictor) if self.folder else Fitted(self._context.network)

    def _trained(self) -> Fitted:
        if not (self._fitted and self._fitted.stages):
            raise InputError("the session has no trained network; call fit(stage) or run(folder) first, and go on with what they return")
        return self._fitted

    @cached_property
    def _predictor(self) -> Predictor:
        from .core.serialization import config_hash
        from .runs.predictor import open_predictor, predictor_of

        if not self.folder:
            return predictor_of(self._context, self._trained().network)
        known = self._opened and self._opened[:2] == (self.folder, self.network)
        net = self._opened[2] if self._opened and known else open_predictor(self.folder, self.network)
        fix = f"it is the run of another experiment, {net.experiment.name!r}; open it with load(FOLDER), or give that experiment"
        require(config_hash(net.experiment) == config_hash(self.experiment), "folder", str(self.folder), fix)
        return net._replace(experiment=self.experiment)  # whose data may be in memory only


def load(folder: str | Path, network: str = "", *, parts: Iterable[type] = ()) -> Session:
    """Open a finished run.

    Args:
        folder: the run folder.
        network: name of a snapshot or of an average of weights in RUN/snapshots; "" for the final network.
        parts: your own classes in the experiment, such as a schedule, where they are in another module now: found by their names.

    Raises:
        InputError: the folder holds no finished run, or no such network; or the experiment has a class that is not known.

    Example:
        >>> load("runs/photos").predict("more").value.labels  # doctest: +SKIP
    """
    from .core.serialization import checked_parts
    from .runs.predictor import open_predictor

    place = run_folder(folder)
    net = open_predictor(place, network, checked_parts(parts))
    return Session(net.experiment, folder=place, network=network, _opened=(place, network, net))
