"""The options of each command, as dataclasses. The fields of an experiment are options too, such as --seed 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..core.experiment import Experiment
from ..core.validation import require
from ..sweeps.options import WorkerOptions

Overrides = Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Hosts:
    """How the processes of a run find each other; by themselves under Slurm, Open MPI, on TPU slices and as a Kubernetes job."""

    coordinator: str | None = None
    """HOST:PORT of host 0, where nothing tells it."""
    count: int | None = None
    """Number of processes."""
    index: int | None = None
    """Number of this process, from 0."""
    cluster: Literal["Slurm", "Open MPI", "TPU", "Kubernetes"] | None = None
    """What tells the hosts, where it cannot be seen: TPU on a slice that gcloud made."""
    wait: int = 45
    """Seconds to wait for the others at the start."""
    detect: bool = True
    """Whether to look for a cluster where no coordinator is named."""

    def __post_init__(self) -> None:
        given = [self.coordinator, self.count, self.index]
        require(all(x is None for x in given) or None not in given, "hosts", given, "give coordinator, count and index, or none of them")
        if self.coordinator is not None and self.count is not None and self.index is not None:
            name, _, port = self.coordinator.rpartition(":")
            require(bool(name) and port.isdecimal(), "hosts.coordinator", self.coordinator, "use HOST:PORT of host 0")
            require(self.count >= 1, "hosts.count", self.count, "use 1 or more")
            require(0 <= self.index < self.count, "hosts.index", self.index, f"use 0…{self.count - 1}")
        require(self.wait >= 1, "hosts.wait", self.wait, "use 1 second or more")


@dataclass
class PrepareCommand:
    """Downloads and prepares a set of the TensorFlow Datasets catalogue, unless it is prepared already."""

    name: tyro.conf.Positional[str]
    """Name in the catalogue: NAME, NAME/CONFIG or NAME:VERSION."""
    data_dir: str | None = None
    """Folder of prepared sets; by default TFDS_DATA_DIR, or ~/tensorflow_datasets."""


@dataclass
class NewCommand:
    """Writes an experiment file for a folder of images: size, batches, cache, balance and cycles chosen for them, each with its reason."""

    folder: tyro.conf.Positional[Path]
    """Holds train/CLASS/* and valid/CLASS/*, or only CLASS/*."""
    out: Path | None = None
    """The file to write; by default the folder's name with .py, here."""
    model: str = "EfficientNetLite0"
    """Name of the network; `sgdr-jax models` lists them."""
    budget: float | None = None
    """Epochs of the last stage, in which everything trains; by default 1 + 2 + 4."""
    minutes: float | None = None
    """Minutes that the last stage may take on this machine, in place of epochs: some updates are timed."""
    measure: bool = True
    """Look how familiar the images are to the network's ImageNet classifier (takes some seconds, needs the weights)."""


@dataclass
class DataCommand:
    """Decodes the data of an experiment and prints what they are: counts, sizes, duplicates, unreadable files (without jax)."""

    experiment: Overrides
    rejected: Path | None = None
    """Also write the names of all unreadable files, with the reasons, to this file."""


@dataclass
class PlanCommand:
    """Prints what an experiment would do, stage by stage, without training (and without jax)."""

    experiment: Overrides
    csv: Path | None = None
    """Also write every update as CSV to this file."""
    train_size: int | None = None
    """Plan for this many training images instead of looking at the data."""


@dataclass
class TrainCommand:
    """Runs an experiment and keeps everything in a run folder. On SIGTERM or SIGUSR1 it saves and exits with 75."""

    experiment: Overrides
    run: Path | None = None
    """The run folder; by default runs/NAME-DATE-TIME."""
    resume: bool = False
    """Go on with the run in the folder, from its newest checkpoint."""
    hosts: Hosts = Hosts()
    """How the processes of a run on several hosts find each other."""
    per_device: int | None = None
    """Images of a batch on each device; the batch of the experiment is then replaced by this times the devices. By default its batch_size,
    which is that of all devices together, stays as it is."""
    lr_rule: Literal["linear", "sqrt", "none"] = "linear"
    """With --per-device: how rates that are given grow with the batch. linear is for SGD, sqrt for Adam."""

    def __post_init__(self) -> None:
        require(self.per_device is None or self.per_device >= 1, "--per-device", self.per_device, "use 1 or more")


@dataclass(frozen=True, kw_only=True)
class SweepCommand(WorkerOptions):
    """Run a sweep: a base experiment along axes of its fields, or a search among them.

    Finished runs are skipped, interrupted ones continue, and a failed run does not stop the others. The other options change the base.
    """

    experiment: Overrides
    dir: Path | None = None
    """Folder of the sweep; by default runs/NAME."""
    dry_run: bool = False
    """Only print the table of runs, with estimates of their cost."""
    only: str = ""
    """Numbers of the runs to execute, such as 3,7 or 0-4, without trials; by default all."""
    workers: int = 1
    """Number of processes on this machine, or of jobs with --launch slurm; others may join with the same --store and --dir."""
    launch: Literal["slurm"] | None = None
    """slurm: submit the workers as an array of jobs, with the options of `launch slurm`; the store is DIR/store.journal by default."""


@dataclass
class FindLrCommand:
    """Runs the learning-rate finder for one stage, on the network as it is before the first stage; prints and draws the curve."""

    experiment: Overrides
    stage: int = 0
    """Index of the stage."""
    rule: Literal["combined", "valley", "steep", "minimum", "slide"] | None = None
    """How the rate is read off the curve; by default as the stage says."""
    each: bool = False
    """Also a curve for each trained layer group alone, the others at rate 0; their pictures have the group's name in theirs."""
    out: Path = Path("find-lr.png")
    """Where the picture goes."""


@dataclass
class ShowBatchCommand:
    """Draws a few training images with their labels: plain, augmented as a stage does it, and as test-time views."""

    experiment: Overrides
    stage: int = 0
    """Index of the stage."""
    count: int = 8
    """Number of images."""
    out: Path = Path("show-batch.png")
    """Where the picture goes."""


@dataclass
class EvalCommand:
    """Evaluates a finished run on one of its splits."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    split: Literal["train", "valid", "test"] | None = None
    """Which images; by default the validation images or, after a refit, which has trained on those, the test images."""
    network: str = ""
    """A network kept at a cycle's end, or an average of weights, by its name in RUN/snapshots; by default the final one."""
    tta_views: int | None = None
    """Augmented views beside the plain one; by default as in the experiment, 0 for none."""
    out: Path | None = None
    """Also write the predictions as CSV to this file: name, true label, label, probability, disagreement of the views, then one
    column per class."""
    classes: Path | None = None
    """Also write the results of each class as CSV to this file."""
    experiment: Path | None = None
    """The experiment file of the run; needed only where it defines a model, dataset or the like of its own."""


@dataclass
class PredictCommand:
    """Predicts the classes of image files with a finished run; writes CSV: path, label, probability, then one column per class.

    With test-time views `disagreement`, the share of the views that name another class than their mixture, follows the probability.
    """

    paths: tyro.conf.Positional[tuple[str, ...]]
    """Image files, or folders of them."""
    run: Path = field(kw_only=True)
    """The run folder."""
    network: str = field(default="", kw_only=True)
    """A network kept at a cycle's end, or an average of weights, by its name in RUN/snapshots; by default the final one."""
    out: Path | None = field(default=None, kw_only=True)
    """Where the CSV goes; by default the terminal."""
    tta_views: int | None = field(default=None, kw_only=True)
    """Augmented views beside the plain one; by default as in the experiment, 0 for none."""
    calibrated: bool = field(default=False, kw_only=True)
    """Give the probabilities at the temperature that the run fitted to its validation images."""
    experiment: Path | None = field(default=None, kw_only=True)
    """The experiment file of the run; needed only where it defines a model, dataset or the like of its own."""


@dataclass
class CompareCommand:
    """What a sweep has found: every arm beside the baseline, seed by seed, with intervals and tests; tables, pictures, one HTML page."""

    sweep: tyro.conf.Positional[Path]
    """The sweep's folder."""
    split: Literal["test", "valid"] | None = None
    """Which images; by default test where the runs have it."""
    measure: Literal["accuracy", "loss"] = "accuracy"
    """What the differences are of."""
    tta: bool = False
    """Differences between the final figures of each run: of all its test-time views mixed, of the plain view where it has no others."""
    networks: bool = False
    """The arms are the networks that each run has kept and made (`--snapshots.last 4` of sweep): its final one, which is the baseline, the
    last, ensembles, averages of weights."""
    baseline: str | None = None
    """The arm that the others are set against; by default the sweep's own."""
    alpha: float = 0.05
    """Level of the tests; the intervals hold the true difference 1 - alpha of the time."""
    out: Path | None = None
    """Folder of answer.html, answer.md, answer.csv and the pictures; by default the folder `answer` of the sweep."""
    results: Path | None = None
    """Also write the sweep's section of this file, such as experiments/RESULTS.md, with pictures beside it."""


@dataclass
class ModelsCommand:
    """Lists the networks: parameters of the body in millions, billions of multiply-adds for one image, layer groups, default weights."""

    name: tyro.conf.Positional[str] = ""
    """Part of a name, such as resnet; the name of a single network shows its blocks."""
    size: int | None = None
    """Side of the image in pixels; by default what the network's weights were trained with."""
    csv: Path | None = None
    """Also write the table as CSV to this file, with plain numbers."""


WITH_EXPERIMENT = {
    "data": DataCommand,
    "plan": PlanCommand,
    "train": TrainCommand,
    "sweep": SweepCommand,
    "find-lr": FindLrCommand,
    "show-batch": ShowBatchCommand,
}
ALONE = {
    "new": NewCommand,
    "eval": EvalCommand,
    "predict": PredictCommand,
    "compare": CompareCommand,
    "prepare": PrepareCommand,
    "models": ModelsCommand,
}
