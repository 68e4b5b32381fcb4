"""Out-of-sample probabilities of a run's images: of held-out images by its network, of all others by networks of a cross-validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.console import NullConsole
from ..core.errors import InputError, Preempted
from ..core.experiment import Experiment
from ..core.validation import require
from ..data.load import load_for
from ..datasets import Fold
from ..distributed.preemption import stoppable
from ..train.context import RunContext, prepare
from .data_index import changes, data_index, read_index
from .predictor import Evaluation, Predictor, evaluate_split, open_predictor
from .run import run


class OutOfSample(NamedTuple):
    """Probabilities of images that the network was not trained on.

    Attributes:
        names: of n images.
        labels: int [n], or float [n, classes] for multi-label data.
        probabilities: float32 [n, classes], or float64 for multi-label data, of all test-time views mixed.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray


def held_out(net: Predictor, views: int | None = None, ui: NullConsole | None = None) -> OutOfSample:
    """Predict the images that the run's final network was not trained on: validation (unless it was refitted on them) and test images.

    Raises InputError where there are none.
    """
    splits = [split for split in ("valid", "test") if split in net.experiment.data.open().labels]
    splits = [split for split in splits if not (net.experiment.refit and split == "valid")]
    if not splits:
        fix = "use --folds 5, which trains five networks and judges each image by the one that has not seen it"
        if not net.experiment.refit:
            raise InputError(f"there are no validation or test images, and the network has trained on all others; {fix}")
        why = "the run was refitted, so its network has trained on the validation images too, and there are no test images"
        raise InputError(f"{why}; {fix}, or train anew with refit=False (--no-refit)")
    return _joined([evaluate_split(net, split, views, ui) for split in splits])


def out_of_fold(
    net: Predictor,
    folds: int,
    folder: Path,
    views: int | None = None,
    ui: NullConsole | None = None,
    commit: str | None = None,
    leave: Callable[[], bool] = lambda: False,
) -> OutOfSample:
    """Predict each training and validation image with a network that was trained without its fold, as the run's experiment trains.

    Test images are predicted by the run's own network. The runs of the folds are kept, and an interrupted one continues.

    Args:
        net: the network of the run.
        folds: number of parts, and of trainings.
        folder: for the run folders of the folds.
        views: augmented views besides the plain one; None as in the experiment.
        ui: progress bars.
        commit: recorded in environment.json, see `environment.git_commit`.
        leave: whether to save and stop, see `preemption.handle_signals`.

    Raises:
        Preempted: after `leave` has returned True.
        InputError: for fewer than two folds, data that cannot be divided, or folds in the folder that began with other images than today's.
    """
    ui = ui or NullConsole()
    require(folds >= 2, "--folds", folds, "use 2 or more, or 0 for held-out images only")
    source = net.experiment.data.open()
    divided = [dataclasses.replace(net.experiment, data=Fold(net.experiment.data, folds, fold), refit=False) for fold in range(folds)]
    owners = [folder / f"fold-{fold + 1}-of-{folds}" for fold in range(folds)]
    for experiment, own in zip(divided, owners, strict=True):
        experiment.data.open()  # what cannot be divided is refused here rather than after some trainings
        _check_begun(experiment, own)
    watching = stoppable(ui, leave)

    def prepared(experiment: Experiment) -> RunContext:
        return prepare(experiment, watching)._replace(leave=leave)

    parts = [evaluate_split(net, "test", views, watching)] if "test" in source.labels else []
    for fold, (experiment, own) in enumerate(zip(divided, owners, strict=True)):
        ui.say(f"fold {fold + 1} of {folds}")
        run(experiment, own, resume=True, commit=commit, ui=ui, prepared=prepared)
        if leave():
            raise Preempted(f"stopped after fold {fold + 1} of {folds}; the same command goes on")
        parts.append(evaluate_split(open_predictor(own), "valid", views, watching))
    return _joined(parts)


def _check_begun(experiment: Experiment, own: Path) -> None:
    """Refuse a fold that began with other images: its network may have trained on those that it is to judge.

    A finished run says what it found without a look at its data.
    """
    if (before := read_index(own)) is None:
        return
    source = experiment.data.open()
    data = load_for(experiment, source, NullConsole())
    if changed := changes(before, data_index(data)):
        fix = f"remove the folders of these folds in {own.parent}, so that their networks are trained anew"
        raise InputError(f"the data are not those that {own} began with: {'; '.join(changed)}; {fix}")


def _joined(parts: Sequence[Evaluation]) -> OutOfSample:
    names = tuple(name for part in parts for name in part.names)
    return OutOfSample(names, np.concatenate([p.labels for p in parts]), np.concatenate([p.views.probabilities for p in parts]))
