"""Records of a run folder: the rows of metrics.jsonl and the contents of summary.json and environment.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from ..evaluation.metrics import CalibrationMetrics, EvalMetrics, ThresholdRecord


class TrainRow(TypedDict):
    """One update. `step` counts the updates of the stage before it, `epoch` is `step` in epochs of the schedule.

    `skipped` is there if nothing was applied, since the loss, a gradient or what would follow from it was not finite, or a rate too large.
    """

    kind: Literal["train"]
    stage: str
    stage_index: int
    step: int
    epoch: float
    loss: float | None
    lr: dict[str, float]
    momentum: float
    skipped: NotRequired[bool]
    seconds: float


class EvalRow(TypedDict):
    """The validation at the end of a cycle, with `top5` of more than five classes, or `f2` and `map` of multi-label data.

    `drift` holds how far each group's batch statistics have moved: [shift, stretch].
    """

    kind: Literal["eval"]
    stage: str
    stage_index: int
    step: int
    epoch: float
    cycle: int
    split: str
    loss: float
    accuracy: float
    top5: NotRequired[float]
    f2: NotRequired[float]
    map: NotRequired[float]
    drift: NotRequired[dict[str, list[float]]]
    seconds: float


class BatchNormRow(TypedDict):
    """Batch statistics measured anew before a stage; `drift` as in `EvalRow`."""

    kind: Literal["bn"]
    stage: str
    step: int
    drift: dict[str, list[float]]


class SolveRow(TypedDict):
    """How a head was solved: the strength, the mean loss of held-out images at each strength tried, and how exact the solution is.

    `gradient` is the norm of the gradient relative to that at zero, `evaluations` how often the activations were read for the solution.
    """

    kind: Literal["solve"]
    stage: str
    step: int
    weight_decay: float
    tried: list[float]
    losses: list[float]
    gradient: float
    evaluations: int


class LoweredRow(TypedDict):
    """A stage that diverged goes on from update `step` with this share of its rates; the updates that led there have no rows."""

    kind: Literal["lowered"]
    stage: str
    step: int
    lr_scale: float


type Row = TrainRow | EvalRow | BatchNormRow | SolveRow | LoweredRow
"""One line of metrics.jsonl. Numbers that are not finite are null."""


class StageSummary(TypedDict):
    """One finished stage. Validation figures are those of its best cycle (without `keep_best` its last), None without validation images.

    `valid_accuracy` of multi-label data is the mean average precision (F2 in runs of earlier versions).

    `kept` tells whether the stage improved on the best network so far (always true without `keep_best`), `cycles` after how many cycles
    its own best was reached, `skipped` how many updates were skipped, if any, `images` how many were shown, repeated ones each time (in
    proportion, if it stopped early).
    `lr_scale` is the share of the rates that it went on with after it had diverged, `accumulate` the number of parts that a batch was
    split into since it did not fit the devices' memory.
    """

    name: str
    size: int
    epochs: float
    steps: int
    seconds: float
    train_loss: float
    valid_loss: float | None
    valid_accuracy: float | None
    lr: list[float]
    kept: bool
    cycles: int
    stopped: str
    images: NotRequired[int]
    skipped: NotRequired[int]
    lr_scale: NotRequired[float]
    accumulate: NotRequired[int]


class SnapshotRow(TypedDict):
    """A network of a run's comparison: a cycle end, an ensemble or an average of weights, with the cycle ends that it is made of.

    `network` is its name in RUN/snapshots where it is kept there, `threshold` that of multi-label data. Earlier versions have neither.
    """

    name: str
    members: list[str]
    network: NotRequired[str]
    threshold: NotRequired[ThresholdRecord]
    valid: NotRequired[EvalMetrics]
    test: NotRequired[EvalMetrics]


def snapshot_row(summary: Mapping[str, Any], network: str) -> Mapping[str, Any]:
    """Return the row of a network in RUN/snapshots; empty where the summary has none.

    Of earlier versions it is the row of that name, or of an ensemble of this network alone.
    """
    rows = summary.get("snapshots", ())
    like = (row for row in rows if row["name"] == network or row["members"] == [network])
    return next((row for row in rows if row.get("network") == network), None) or next(like, {})


class CompiledRecord(TypedDict):
    """What a process compiled: programs, those of them loaded from the disk, seconds spent; by name the number and the seconds.

    `longest` are the seconds of its longest compilation, in which it notices no signal.
    """

    programs: int
    loaded: int
    seconds: float
    names: NotRequired[dict[str, list[float]]]
    longest: NotRequired[float]


def undone_verdict(leeway: float) -> str:
    """Return what an undone stage is on the validation images, as `Experiment.leeway` allows equal ones to differ."""
    return "clearly worse" if leeway else "not better"


class RunSummary(TypedDict):
    """A finished run: its stages and the figures of its final network.

    `images` holds the number of images of each split that was evaluated, `tta` the measures by number of views, `calibration` the
    temperature and reliability of each split, `times` the seconds spent on loading and evaluation, `threshold` (multi-label data with
    validation images) the one that predictions use, `snapshots` the comparison of the kept networks, `compiled` what this process compiled,
    `device_memory` the largest number of bytes that this process had in use on a device (peak) and could have used (limit), `seconds` the
    time of this process, which `resumed` says was not the run's first.
    """

    stages: list[StageSummary]
    size: int
    refit: bool
    images: NotRequired[dict[str, int]]
    valid: EvalMetrics
    test: EvalMetrics
    tta: dict[str, list[EvalMetrics]]
    calibration: dict[str, dict[str, CalibrationMetrics]]
    times: dict[str, float]
    threshold: NotRequired[ThresholdRecord]
    snapshots: NotRequired[list[SnapshotRow]]
    compiled: NotRequired[CompiledRecord]
    device_memory: NotRequired[dict[str, int]]
    seconds: NotRequired[float]
    resumed: NotRequired[bool]


class DataRecord(TypedDict):
    """The data that a run saw: data.json. Of the groups of images with the same pixels the first few are listed.

    `counts` holds the images of each class by split, `across_splits` and `conflicting` the numbers of groups of images with the same pixels
    in several splits, and with different labels; the same names plus `_images` (not in runs of earlier versions) hold the numbers of their
    images, the lists plus `_names` "split: name" of the first few, one of each split or label before others.
    """

    classes: list[str]
    multi_label: bool
    counts: dict[str, list[int]]
    images: dict[str, int]
    across_splits: int
    across_splits_images: NotRequired[int]
    across_splits_names: list[list[str]]
    within_split: int
    conflicting: int
    conflicting_images: NotRequired[int]
    conflicting_names: list[list[str]]
    unreadable: int


class Start(TypedDict, total=False):
    """One start of a run, an entry of environment.json: everything besides the experiment that its numbers may depend on."""

    started: str
    process: str
    command: list[str]
    python: str
    platform: str
    cpu: str
    cpus: int | None
    devices: list[str]
    weights: dict[str, Any]
    packages: dict[str, str]
    commit: str | None


class Environment(TypedDict, total=False):
    """Content of environment.json: the experiment's hash and the starts of the run."""

    config_hash: str
    starts: list[Start]


class FinderCurve(TypedDict):
    """Content of finder-STAGE.json: the stage, the fields of `train.lr_curve.LrCurve` and a digest; some are missing in early versions."""

    stage: str
    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestions: dict[str, float]
    chosen: float
    rule: str
    verdict: str
    confidence: NotRequired[float]
    low: NotRequired[list[float]]
    high: NotRequired[list[float]]
    orders: NotRequired[int]
    ratio: NotRequired[float]
    digest: NotRequired[str]
    falls: NotRequired[list[tuple[float, float]]]


class SnapshotFacts(TypedDict):
    """Metadata of every kept network: the side in pixels that it was trained at."""

    size: int


class NetworkFacts(SnapshotFacts):
    """What is kept with the final network besides its arrays, in its checkpoint's metadata.

    `canvas` is the side of the stored images in pixels, `data` the fingerprint of the data, `mean` and `std` those of the channels,
    `interpolation` and `crop` those of its plain images (`augment.plain.PlainView`).
    """

    classes: list[str]
    channels: int
    canvas: int
    multi_label: bool
    mean: list[float]
    std: list[float]
    data: NotRequired[str]
    interpolation: NotRequired[str]
    crop: NotRequired[float]


class FinalFacts(TypedDict):
    """metadata.json of the final network, as far as it is read by itself."""

    metadata: NetworkFacts
