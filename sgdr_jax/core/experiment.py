"""Experiment configuration: frozen dataclasses that validate their fields.

A setting exists once, as a field of what it configures. Experiment files build one `Experiment`; the command line overrides its fields by
dotted names; the run folder keeps it as `config.json` (see `serialization`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from .kinds import Config
from .learning_rates import Decay, Find, Spread
from .optimizers import Optimizer, Sgd
from .snapshots import Snapshots
from .solve import Solve
from .types import OMIT_DEFAULT, Augmentation, Dataset, Model, Schedule
from .validation import finite, is_name, require, whole

Resize = Literal["crop", "squish", "pad"]
"""Ways to make an image square, see `Experiment.resize`."""


@dataclass(frozen=True)
class Stage(Config):
    """One fit: what trains, at which size, how fast, for how long. Each stage starts with a fresh optimizer state."""

    name: str
    """Name in tables and logs, unique in the experiment."""
    size: int | tuple[int, ...] = 224
    """Side in pixels of the square that the network sees; several sizes share the stage's epochs evenly, in order."""
    train: int | str | tuple[str, ...] = "all"
    """What trains: "head", "all", names of layer groups, or the index of the first group that trains."""
    lr: float | tuple[float, ...] | Spread | Decay | Find | None = Find()
    """Peak learning rate: one for all trained groups, one per trained group, Spread, Decay, Find, or None for those of the stage
    before."""
    schedule: Schedule = field(default=Schedule(), kw_only=True)
    """Course of the learning rate relative to its peak, and the length of the stage; none for a head that is solved."""
    augment: bool = True
    """Whether training images are augmented (by `Experiment.augment`)."""
    strength: float | tuple[float, float] = 1.0
    """Factor on the magnitudes of the augmentations, 0…1; a pair moves linearly from the first to the last update of the stage."""
    views: int = 0
    """Number K of fixed augmented copies of each image, pass e over the images uses copy e mod K; 0: fresh augmentation at every step."""
    repeats: int = 1
    """Number R of differently augmented copies of each image in a batch, so an epoch shows a share 1 / R of the images and R epochs show
    each R times. Source: Hoffer et al. 2020, "Augment your batch"; Berman et al. 2019, "MultiGrain"."""
    precompute: bool = False
    """Compute the activations of the frozen groups once and train on those; needs views when augmenting. Cached images are not mixed
    (MixUp, CutMix)."""
    bn: Literal["train", "frozen"] | tuple[str, ...] = "train"
    """Batch normalisation of trained groups: with batch statistics, which are collected (train), or with the stored ones (frozen); names:
    groups that train theirs. The head always trains its own."""
    recalibrate: bool | tuple[str, ...] = False
    """Whether to measure the stored batch statistics again before the first update, on all training images at the stage's size: of all
    layer groups, or of the groups named. For stages that unfreeze or resize."""
    patience: int | None = None
    """Cycle ends in a row without improvement of the validation loss after which the stage stops; None: run all cycles."""
    optimizer: Optimizer | None = None
    """Overrides the experiment's optimizer for this stage."""
    batch_size: int | None = None
    """Overrides the experiment's batch size for this stage."""
    accumulate: int = 1
    """Number of parts in which the images of an update pass through the network in turn, to save memory. An update is still one batch:
    schedules, epochs and logs do not change. Batch statistics are those of a part."""
    solve: Solve | None = field(default=None, kw_only=True, metadata=OMIT_DEFAULT)
    """Solve the linear head (`hidden=0`) on cached activations by logistic regression instead of training it: one update with all images,
    without schedule or learning rate."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes, in order."""
        return self.size if isinstance(self.size, tuple) else (self.size,)

    _fixes: ClassVar[Mapping[str, str]] = {
        "train": 'use "all", "head", the index of the first group that trains, or names of layer groups',
        "augment": "use True or False; the augmentations belong to Experiment.augment",
        "recalibrate": "use True, False, or a tuple of names of layer groups",
        "schedule": "use one, such as Sgdr(3)",
    }

    def _label(self, name: str) -> str:
        return f'stage "{self.name}": {name}'

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, value: object, fix: str) -> None:
            require(ok, f'stage "{self.name}": {name}', value, fix)

        check(bool(self.name), "name", self.name, "give the stage a name")
        given = type(self.schedule) is not Schedule or self.solve is not None
        check(given, "schedule", self.schedule, self._fixes["schedule"])
        sizes = self.sizes
        check(bool(sizes) and all(8 <= size <= 4096 for size in sizes), "size", self.size, "use 8…4096 pixels")
        check(len(sizes) == 1 or not self.precompute, "size", self.size, "cached activations have one size; give one, or precompute=False")
        check(self.repeats >= 1, "repeats", self.repeats, "use 1 or more")
        check(self.repeats == 1 or (self.augment and not self.views), "repeats", self.repeats, "copies need fresh augmentation (views=0)")
        ends = self.strength if isinstance(self.strength, tuple) else (self.strength,)
        check(len(ends) in (1, 2) and all(0 <= s <= 1 for s in ends), "strength", self.strength, "use a strength in 0…1, or (first, last)")
        check(len(ends) == 1 or not self.precompute, "strength", self.strength, "cached activations have one strength: use one number")
        check(self.views >= 0, "views", self.views, "use 0 (fresh draws) or a number of copies")
        check(isinstance(self.bn, tuple) or self.bn in ("train", "frozen"), "bn", self.bn, "use train, frozen, or names of layer groups")
        check(self.patience is None or self.patience >= 1, "patience", self.patience, "use 1 or more, or None")
        check(self.batch_size is None or self.batch_size >= 1, "batch_size", self.batch_size, "use 1 or more")
        check(self.accumulate >= 1, "accumulate", self.accumulate, "use 1 or more")
        for lr in self.lr if isinstance(self.lr, tuple) else (self.lr,):
            check(
                lr is None or isinstance(lr, (Spread, Decay, Find)) or (finite(lr) and lr >= 0),
                "lr",
                self.lr,
                "use finite numbers of at least 0, Spread, Decay, Find, or None",
            )
        fresh = self.precompute and self.augment and not self.views
        if self.solve is not None:
            check(self.precompute, "precompute", False, "a head is solved on cached activations: use precompute=True")
            check(type(self.schedule) is Schedule, "schedule", self.schedule, "a solved head has none: leave it out, or use solve=None")
            check(self.lr == Find(), "lr", self.lr, "a solved head has no learning rate: leave it out, or use solve=None")
            alone = self.optimizer is None and self.batch_size is None and self.accumulate == 1
            check(alone, "solve", self.solve, "all images at once, by L-BFGS: leave out optimizer, batch_size and accumulate")
        check(not fresh, "precompute", True, "fresh augmentation cannot be cached: set augment=False, or views=K for K cached copies")


@dataclass(frozen=True)
class Eval(Config):
    """Evaluation of splits, and how test-time augmentation (TTA) combines its views."""

    batch_size: int = 256
    """Images per evaluation step, over all devices."""
    tta_views: int = 4
    """Number of augmented views besides the plain one; 0: no TTA."""
    tta_kind: Literal["random", "flip", "dihedral", "five", "ten", "scales"] = "random"
    """Views drawn from the experiment's augmentations, or fixed ones in order: flip has 1 beside the plain view; dihedral 7; five, the
    corners and the centre at 7/8 of the side; ten, these and their mirror images; scales 4, the side times 7/8, 9/8, 3/4, 5/4."""
    tta_weight: float | tuple[float, ...] | None = 0.25
    """Weight of the plain view, the others share the rest; None weighs all views alike; a tuple gives each view its own, the plain
    one first (their sum does not matter). Source: fastai 2's beta."""
    tta_mean: Literal["probability", "log", "max"] = "probability"
    """Mean of probabilities, of log-probabilities (then normalised again), or the largest probability of any view (normalised again)."""
    tta_memory: int = 1024
    """Memory in MiB for the images and predictions of all views; larger sets are evaluated in blocks."""
    beta: float = field(default=2.0, metadata=OMIT_DEFAULT)
    """Weight of recall against precision in F-beta, for which the threshold of multi-label predictions is fitted: 2 for classes that must
    not be missed, 1 for balance, 0.5 for classes that must be right."""

    def _label(self, name: str) -> str:
        return f"evaluate.{name}"

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "evaluate.batch_size", self.batch_size, "use 1 or more")
        most = {"random": 1000, "flip": 1, "dihedral": 7, "five": 5, "ten": 10, "scales": 4}
        require(self.tta_kind in most, "evaluate.tta_kind", self.tta_kind, f"use one of {', '.join(most)}")
        require(self.tta_mean in ("probability", "log", "max"), "evaluate.tta_mean", self.tta_mean, "use probability, log or max")
        views = most[self.tta_kind]
        ok = whole(self.tta_views) and 0 <= self.tta_views <= views
        require(ok, "evaluate.tta_views", self.tta_views, f"use 0…{views} with tta_kind={self.tta_kind!r}")
        w = self.tta_weight
        if isinstance(w, tuple):
            ok = len(w) > self.tta_views and all(finite(x) and x >= 0 for x in w) and w[0] > 0
            require(ok, "evaluate.tta_weight", w, f"give {1 + self.tta_views} weights (1 + tta_views) of at least 0, the first above 0")
        else:
            require(w is None or 0 <= w <= 1, "evaluate.tta_weight", w, "use a share in 0…1, one weight for each view, or None")
        require(self.tta_memory >= 1, "evaluate.tta_memory", self.tta_memory, "use 1 MiB or more")
        require(finite(self.beta) and self.beta > 0, "evaluate.beta", self.beta, "use a positive number, such as 1 or 2")


@dataclass(frozen=True)
class Parallel(Config):
    """Distribution of the work over devices. It changes a run's numbers by no more than roundings, and a run may resume with another."""

    devices: int = 0
    """Number of devices to use; 0 for all."""
    backend: Literal["jit", "pmap"] = "jit"
    """Distribution of the training step by jit, or by pmap for clusters that expect it; the numbers are the same."""
    sharded: bool = False
    """Split large parameters and optimizer slots over the devices too (as FSDP and ZeRO do), for networks that fill a device's memory."""
    steps_per_execution: int = 0
    """Most updates sent to the devices as one program, in stages with frozen groups or resident images; fewer before a cycle's end or a
    checkpoint. 0: up to 32, on a CPU for heads alone; 1: one by one. Source: Keras's name for it."""

    def _label(self, name: str) -> str:
        return f"parallel.{name}"

    def __post_init__(self) -> None:
        require(self.devices >= 0, "parallel.devices", self.devices, "use 0 for all, or a number of devices")
        count = self.steps_per_execution
        require(0 <= count <= 1000, "parallel.steps_per_execution", count, "use 0 for what suits the stage, or 1…1000 updates")
        require(self.backend in ("jit", "pmap"), "parallel.backend", self.backend, "use jit or pmap")
        require(self.backend == "jit" or not self.sharded, "parallel.sharded", True, "pmap copies the network; use parallel.backend=jit")


@dataclass(frozen=True)
class Experiment(Config):
    """Complete description of a run: data, model, augmentation, the stages in order, and their evaluation."""

    name: str
    """Name of the run folder."""
    data: Dataset
    """Where images and labels come from."""
    model: Model
    """The network."""
    stages: tuple[Stage, ...]
    """Fits in order, each from the best state so far."""
    augment: tuple[Augmentation, ...] = ()
    """Augmentations of training images and random TTA views, in order."""
    optimizer: Optimizer = Sgd()
    """How gradients become updates."""
    batch_size: int = 64
    """Images per update, over all devices."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes, 0…1 and below 1."""
    balance: float = 0.0
    """Oversampling of rare classes: 0: none, 1: all classes equally often; an epoch keeps its length."""
    class_weights: float = 0.0
    """Weighting of the loss: 0: every image drawn counts the same, 1: every class does, however often `balance` draws it. The loss of a
    batch is its weighted mean, as in PyTorch, so a class that is in few of the batches has less than its share of the updates: 0.2 instead
    of 0.5 where one image in a hundred has it, in batches of 32. Of mixed images each label has the weight of its own class."""
    epoch_steps: int = 1
    """Least number of updates per epoch: an epoch of the schedules goes on through a small set until it has as many."""
    budget: float | None = None
    """Largest number of epochs of all stages together; longer plans are rejected. Lengths can be shares of it (`schedules.Share`)."""
    evaluate: Eval = Eval()
    """Evaluation of splits."""
    snapshots: Snapshots = field(default_factory=Snapshots)
    """Networks kept at cycle ends for ensembles and averages of weights."""
    keep_best: bool = True
    """Whether to undo a stage that ends below the best state so far on the validation images by more than `leeway`."""
    leeway: float = 0.0
    """Standard errors by which the validation accuracy of a later state may lie below the highest so far and still replace the best: of
    states that a few validation images cannot distinguish, the longest trained. An error is at least one image. 0: only a better state
    replaces it."""
    refit: bool = False
    """Whether to train the final network again on the training and validation images together, with the rates, stages and cycles that the
    validation images chose. It takes as long again; validation figures are those of the first training."""
    canvas: int | None = None
    """Side in pixels at which images are stored; None: 1.15 times the largest stage size, and no larger than arrays already are."""
    resize: Resize = field(default="crop", metadata=OMIT_DEFAULT)
    """How stored images become square, for training, evaluation and prediction: the centre is cut out (crop), both sides are scaled to it
    (squish), or the whole image is fitted into it on a black ground (pad)."""
    images: Literal["auto", "resident", "streamed", "decoded"] = "auto"
    """Where images are kept: on the devices, a share on each (resident), on the host and read batch by batch (streamed), or decoded again
    for each batch (decoded); auto: resident where they fit, else streamed, else decoded. The numbers are the same in all cases."""
    max_bad_share: float = 0.01
    """Largest share of image files that cannot be read: up to it they are listed and left out, beyond it the run stops."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints besides those at cycle ends; None: cycle ends only."""
    compute: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Data type of the network's arithmetic; auto: float32 on CPU, else bfloat16. Parameters are float32, or float64 with float64
    (JAX_ENABLE_X64=1). Products of float32 are computed in float32 on every device, not in TF32 on a GPU or bfloat16 on a TPU; those of
    the head always are."""
    parallel: Parallel = Parallel()
    """Distribution over devices."""
    seed: int = 0
    """Root of all randomness: initial head, order, augmentation, dropout."""
    first_epoch_share: float = field(default=1.0, kw_only=True, metadata=OMIT_DEFAULT)
    """Share of `epoch_steps` in the training before a `refit`, which only has to choose; above 0, at most 1. It does not count without
    `refit`."""
    on_divergence: Literal["stop", "halve"] = field(default="stop", kw_only=True, metadata=OMIT_DEFAULT)
    """What follows when five updates in a row had a loss or gradients that are not finite, or a stage ends with such a validation loss:
    the run stops, or the stage goes back to its newest checkpoint that was due, or its beginning, and goes on at half the rates."""

    @property
    def largest_size(self) -> int:
        """Largest side in pixels that any stage sees."""
        return max(max(stage.sizes) for stage in self.stages)

    @property
    def least_epoch_steps(self) -> int:
        """Least number of updates per epoch of the training that comes first, or is the only one."""
        share = self.first_epoch_share if self.refit else 1.0
        return math.ceil(share * self.epoch_steps - 1e-9)

    _fixes: ClassVar[Mapping[str, str]] = {
        "data": 'use one of sgdr_jax.datasets, such as ImageFolder("photos")',
        "model": "use one of sgdr_jax.models, such as ResNet18()",
        "stages": "use a tuple of Stages",
        "augment": "use a tuple of augmentations, such as (Flip(), Rotate()), or () for none",
        "optimizer": "use one, such as Sgd() or AdamW()",
        "evaluate": "use an Eval, such as Eval(tta_views=4)",
        "snapshots": "use Snapshots, such as Snapshots(last=3), or Snapshots() for none",
        "parallel": "use a Parallel, such as Parallel(devices=1)",
    }

    def _label(self, name: str) -> str:
        return name

    def __post_init__(self) -> None:
        require(is_name(self.name), "name", self.name, "use a non-empty name without / and control characters")
        require(len(self.stages) > 0, "stages", self.stages, "give at least one Stage")
        names = [stage.name for stage in self.stages]
        require(len(set(names)) == len(names), "stages", names, "give every stage a name of its own")
        for method, fix in (("mix", "use MixUp or CutMix once, not both"), ("weights", "use AugMix once at most")):
            several = [type(a).__name__ for a in self.augment if a.does(method)]
            require(len(several) <= 1, "augment", several, fix)
        require(self.batch_size >= 1, "batch_size", self.batch_size, "use 1 or more")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "use a share in 0…1, below 1")
        require(0 <= self.balance <= 1, "balance", self.balance, "use a number in 0…1")
        require(0 <= self.class_weights <= 1, "class_weights", self.class_weights, "use a number in 0…1")
        known = ("auto", "resident", "streamed", "decoded")
        require(self.images in known, "images", self.images, "use auto, resident, streamed or decoded")
        require(self.epoch_steps >= 1, "epoch_steps", self.epoch_steps, "use at least 1")
        require(0 < self.first_epoch_share <= 1, "first_epoch_share", self.first_epoch_share, "use a share in 0…1, above 0")
        require(self.budget is None or self.budget > 0, "budget", self.budget, "use a positive number of epochs, or None")
        require(finite(self.leeway) and self.leeway >= 0, "leeway", self.leeway, "use 0 or a number of standard errors, such as 1")
        require(self.canvas is None or 8 <= self.canvas <= 8192, "canvas", self.canvas, "use 8…8192 pixels, or None")
        require(self.resize in get_args(Resize), "resize", self.resize, f"use one of {', '.join(get_args(Resize))}")
        require(0 <= self.max_bad_share <= 1, "max_bad_share", self.max_bad_share, "use a share in 0…1")
        often = self.checkpoint_steps
        require(often is None or often >= 1, "checkpoint_steps", often, "use 1 or more, or None")
        require(self.compute in ("auto", "float32", "bfloat16", "float64"), "compute", self.compute, "use auto, float32, bfloat16, float64")
        require(self.on_divergence in ("stop", "halve"), "on_divergence", self.on_divergence, "use stop or halve")
        require(0 <= self.seed < 2**32, "seed", self.seed, "use an integer from 0 to 2^32 - 1")

    def stage_index(self, stage: int | str) -> int:
        """Return the position of a stage that is given by its position or its name. Raises InputError if there is none."""
        names = [s.name for s in self.stages]
        index = names.index(stage) if isinstance(stage, str) and stage in names else stage
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        require(isinstance(index, int) and 0 <= index < len(names), "stage", stage, f"the stages are {known}")
        return int(index)
