"""Predictor: the network of a finished run, which predicts and evaluates images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import augment, datasets, models, schedules  # noqa: F401  # from_json finds types that are imported
from ..augment import kernel
from ..augment.plain import PlainView
from ..core.console import NullConsole
from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.json_files import checked
from ..core.serialization import config_hash, from_json, own_tags
from ..core.state import NetworkState, Tree
from ..core.text import csv_list
from ..core.validation import finite, require
from ..data.decode import LazyEncoded
from ..data.load import Canvas, DecodedFiles, decode_files, load, tell_unreadable
from ..data.loader import image_loader
from ..data.placement import choose_residence
from ..data.sampler import Batch
from ..distributed.memory import free_device_memory
from ..distributed.mesh import devices_for
from ..evaluation import tta
from ..evaluation.calibration import apply_temperature
from ..evaluation.evaluate import EvalExamples, ViewPredictions, predict_views, probabilities_of
from ..evaluation.grad_cam import grad_cam
from ..evaluation.multi_label import DEFAULT_THRESHOLD, thresholds_of
from ..train.context import RunContext
from ..train.programs import Programs, build_programs
from . import checkpoint
from .data_index import replaced
from .folder import read
from .records import NetworkFacts, SnapshotFacts, snapshot_row


class Predictor(NamedTuple):
    """A network of a finished run, ready to predict.

    Attributes:
        experiment: the experiment of the run.
        programs: compiled programs.
        params, stats: the network.
        size: image size in pixels that it was last trained at.
        classes: names of the classes, in label order.
        channels: channels of its images.
        canvas: side in pixels at which its images are stored.
        multi_label: whether an image can have several classes.
        data: fingerprint of the run's dataset; "" for runs of early versions.
        temperatures: fitted to the validation images, for the plain view ("plain") and for all views mixed ("tta").
        thresholds: probabilities above which a class of multi-label data is predicted, fitted likewise; see `threshold`.
        name: of a snapshot or an average of weights; "" for the final network.
        folder: the run folder; None for a network in memory.
    """

    experiment: Experiment
    programs: Programs
    params: Tree
    stats: Tree
    size: int
    classes: tuple[str, ...]
    channels: int
    canvas: int
    multi_label: bool
    data: str
    temperatures: Mapping[str, float]
    thresholds: Mapping[str, float] = {}
    name: str = ""
    folder: Path | None = None

    def threshold(self, views: int) -> float:
        """Return the probability of this number of views above which a class of multi-label data is predicted."""
        return self.thresholds.get("tta" if views > 1 else "plain", DEFAULT_THRESHOLD)

    def label(self, row: np.ndarray, views: int) -> str:
        """Return the likeliest class of a row of probabilities; for multi-label data all above the threshold: `csv_list`."""
        return self._joined(row > self.threshold(views)) if self.multi_label else self.classes[int(row.argmax())]

    def true_label(self, label: np.ndarray) -> str:
        """Return the name of a label (an index, or a row of zeros and ones) in the form of `label`."""
        return self._joined(label > 0.5) if self.multi_label else self.classes[int(label)]

    def _joined(self, shown: np.ndarray) -> str:
        return csv_list([name for name, one in zip(self.classes, shown.tolist(), strict=True) if one], " ")


def open_predictor(folder: str | Path, name: str = "", parts: Iterable[type] = ()) -> Predictor:
    """Open the network of a finished run.

    Args:
        folder: the run folder.
        name: name of a snapshot or of an average of weights in RUN/snapshots; "" for the final network.
        parts: the experiment's own classes, where they are in another module now; see `core.serialization.own_tags`.

    Raises:
        InputError: where the folder holds no finished run, or no such network.
    """
    run = read(folder)
    tags = own_tags(run.config, parts)
    experiment = from_json(run.config, parts)
    require(isinstance(experiment, Experiment), "config.json", str(folder), "name the folder of a run")
    if not (run.path / "final").is_dir():
        if run.summary:
            raise InputError(f"run folder {folder} has kept no network; run its sweep in another --dir with --keep final")
        raise InputError(f"run folder {folder} holds no final network; finish the run with `sgdr-jax train FILE --run {folder} --resume`")
    facts = _facts(run.path, "final", key := config_hash(experiment, tags), NetworkFacts)
    arrays, place, temperatures = "final", run.path, run.summary.get("calibration", {}).get("valid", {})
    if name:
        arrays, place, temperatures = name, run.path / "snapshots", {}  # fitted for the final network alone
        kept = sorted(path.name for path in place.glob("[!.]*") if path.name != "ema")
        fix = f"the run has kept {', '.join(kept) or 'no snapshots'}; leave it out for the final network"
        require(name in kept, "network", name, fix)
        facts["size"] = _facts(place, name, key, SnapshotFacts)["size"]
    network = experiment.model.build(len(facts["classes"]), facts["channels"]).normalised(
        facts["mean"], facts["std"], PlainView(facts.get("interpolation", "bilinear"), facts.get("crop", 1.0))
    )
    # The machine may have other devices than that of the training; batches are those of the experiment.
    here = dataclasses.replace(experiment.parallel, devices=devices_for(experiment.evaluate.batch_size))
    programs = build_programs(dataclasses.replace(experiment, parallel=here), network)
    like = {kind: {group: shapes[i] for group, shapes in network.shapes.items()} for i, kind in enumerate(("params", "stats"))}
    network_arrays = programs.devices.hold(checkpoint.restore(place, arrays, like, key))
    return Predictor(
        experiment,
        programs,
        network_arrays["params"],
        network_arrays["stats"],
        facts["size"],
        tuple(facts["classes"]),
        facts["channels"],
        facts["canvas"],
        facts["multi_label"],
        facts.get("data", ""),
        {kind: t for kind, fitted in temperatures.items() if finite(t := fitted["temperature"]) and t != 1},  # 1 was once written for none
        thresholds_of((snapshot_row(run.summary, name) if name else run.summary).get("threshold")),
        name,
        run.path,
    )


def predictor_of(context: RunContext, network: NetworkState) -> Predictor:
    """Return the predictor of a network in memory, whose run has not refitted it and has fitted no temperature."""
    data = context.data
    return Predictor(
        dataclasses.replace(context.experiment, refit=False),
        context.programs,
        *network,
        data.classes,
        data.channels,
        data.images["train"].shape[1],
        data.multi_label,
        data.source,
        {},
    )


def _facts[T](place: Path, name: str, key: str, kind: type[T]) -> T:
    try:
        return checked(checkpoint.verify(place, name, key), kind, f"{place / name}/metadata.json: ")
    except checkpoint.DamagedCheckpoint as error:
        raise InputError(f"{error}; restore it, or run the experiment again") from error


class Predictions(NamedTuple):
    """Predictions for images.

    Attributes:
        paths: files that could be read; "image N" for the image at position N that came without a file.
        labels: likeliest class of each; see `Predictor.label`.
        probabilities: float32 [n, classes], or float64 for multi-label data.
        disagreement: share of an image's views that predict another class than their mixture, [n].
        bad: (path, reason) of the images that could not be read.
        views: number of views mixed.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: np.ndarray
    disagreement: np.ndarray
    bad: tuple[tuple[str, str], ...]
    views: int = 1


def predict(
    net: Predictor, paths: Sequence[LazyEncoded], views: int | None = None, ui: NullConsole | None = None, *, calibrated: bool = False
) -> Predictions:
    """Predict the classes of images.

    Args:
        net: the network.
        paths: image files, or images as arrays; see `data.gather`. Unreadable ones are returned in `bad`.
        views: augmented views besides the plain one; None as in the experiment, 0 for none.
        ui: progress bars.
        calibrated: apply the temperature that the run fitted; raises InputError where it fitted none.
    """
    ui, parts, bad, seen = ui or NullConsole(), [], [], None
    for found, names in _decoded(net, paths):
        bad += found.bad
        if len(found.images):
            loader = image_loader(found.images, net.programs.devices, resident=False)
            examples = EvalExamples(loader, len(net.classes), found.digests, multi_label=net.multi_label)
            seen = _views(net, examples, views, ui, "predicting")
            parts.append((names, seen.logits, seen.disagreement))
    if seen is None:
        return Predictions((), (), np.zeros((0, len(net.classes)), np.float32), np.zeros(0), tuple(bad))
    readable, (mixed, shares) = [part[0] for part in parts], (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    p = probabilities_of(mixed, net.multi_label)
    labels = tuple(net.label(row, seen.views) for row in p)  # the threshold is for probabilities that are not scaled
    if calibrated:
        p = apply_temperature(mixed, temperature(net, seen.views), net.multi_label).astype(p.dtype)
    return Predictions(tuple(name for part in readable for name in part), labels, p, shares, tuple(bad), seen.views)


def _decoded(net: Predictor, images: Sequence[LazyEncoded]) -> Iterator[tuple[DecodedFiles, list[str]]]:
    """Decode images in blocks; yields each block with the names of its readable images."""
    block = max(net.experiment.evaluate.tta_memory * 2**20 // (net.canvas**2 * net.channels), 1)
    for start in range(0, len(images), block):
        found = decode_files(images[start : start + block], net.canvas, net.channels, start, net.experiment.resize)
        at = [start + i for i in found.index.tolist()]
        yield found, [os.fspath(x) if isinstance(x := images[i], str | os.PathLike) else f"image {i}" for i in at]


def activations(net: Predictor, images: Sequence[LazyEncoded], group: str) -> np.ndarray:
    """Return what a layer group sees of images in evaluation: the activations at its input.

    Args:
        net: the network.
        images: as in `predict`.
        group: name of the group; "head" sees the pooled features [n, features], the first group the images, 0…1.

    Returns:
        float array [n, …].

    Raises:
        InputError: an image cannot be read, or there is no such group.
    """
    groups = net.programs.network.groups
    require(group in groups, "group", group, f"the layer groups are {', '.join(groups)}")
    parts: list[np.ndarray] = []
    for found, _ in _decoded(net, images):
        for name, reason in found.bad:
            raise InputError(f"{name} cannot be read: {reason}; leave it out")
        loader = image_loader(found.images, net.programs.devices, resident=False)

        def rows(_: Batch, x: jax.Array) -> jax.Array:
            plain = net.programs.plain(x, size=net.size)
            return plain if group == groups[0] else net.programs.forward(net.params, net.stats, plain, start=None, stop=group)

        parts.append(net.programs.map(rows, len(found.images), loader))
    return np.concatenate(parts)


def fitted_temperatures(net: Predictor, views: int) -> dict[str, float]:
    """Return the temperatures that the run fitted: for the plain view, and for all views mixed if it mixed as many."""
    own = tta.view_count(net.experiment.evaluate, net.experiment.augment)
    return {kind: value for kind, value in net.temperatures.items() if kind == "plain" or views == own}


def temperature(net: Predictor, views: int) -> float:
    """Return the temperature that the run fitted for this number of views. Raises InputError where it fitted none."""
    fitted = fitted_temperatures(net, views).get("tta" if views > 1 else "plain")
    require(fitted is not None, "calibrated", True, f"the run fitted no temperature for {views} views; leave it out")
    assert fitted is not None
    return fitted


class Evaluation(NamedTuple):
    """Evaluation of a split of the run's own data.

    Attributes:
        views: predictions and metrics.
        names: names of the images.
        labels: int [n], or float [n, classes] for multi-label data.
    """

    views: ViewPredictions
    names: tuple[str, ...]
    labels: np.ndarray


def default_split(net: Predictor) -> str:
    """Return the split to evaluate by default: "valid" or, after a refit on those images, "test" where the data have it."""
    return "test" if net.experiment.refit and "test" in net.experiment.data.open().labels else "valid"


def evaluate_split(net: Predictor, split: str, views: int | None = None, ui: NullConsole | None = None) -> Evaluation:
    """Evaluate a split of the run's own data.

    Raises InputError for an unknown split, and for the validation images after a refit, which has trained on them.
    """
    ui = ui or NullConsole()
    source = net.experiment.data.open()
    require(split in source.labels, "split", split, f"the data has {', '.join(source.labels)}")
    instead = "use test" if "test" in source.labels else "add a test folder, or train with refit=False (--no-refit)"
    fix = f"after a refit the network has trained on these images too; {instead}, or read what they chose in summary.json"
    require(not (net.experiment.refit and split == "valid"), "split", split, fix)
    require(tuple(source.classes) == net.classes, "data", list(source.classes), f"the run was trained on {list(net.classes)}")
    if net.data not in ("", source.fingerprint):
        ui.say(
            "files of the data are not those of the run (their times count): if names or labels have changed, other images are held out, "
            f"and some of {split} may have been trained on"
        )
    how = net.experiment
    data = load(
        source,
        canvas=Canvas(net.canvas, how.resize),
        channels=net.channels,
        only=split,
        images=how.images,
        max_bad_share=how.max_bad_share,
        say=ui.say,
    )
    tell_unreadable(data.bad, len(source.names[split]), ui.say)
    if net.folder and (text := replaced(net.folder, split, data.names[split], data.digests[split])):
        ui.say(f"{text} since the run began")
    resident, _ = choose_residence(
        how.images, -(-data.bytes // net.programs.devices.count), data.storage, device=free_device_memory(net.programs.devices)
    )
    loader = image_loader(data.images[split], net.programs.devices, resident)
    examples = EvalExamples(loader, len(net.classes), data.digests[split], data.labels[split], net.multi_label)
    seen = _views(net, examples, views, ui, f"evaluating {split}")
    return Evaluation(seen, data.names[split], data.labels[split])


def class_maps(net: Predictor, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return where each image raises the score of a class, float32 0…1 [n, side, side] over the whole images; see `grad_cam`.

    What lies outside of a network's central crop (`PlainView.crop`) is zero.

    Args:
        net: the network.
        images: uint8 [n, canvas, canvas, channels].
        classes: int [n], a class of each image.
    """
    params, stats = jax.tree.map(np.asarray, (net.params, net.stats))
    plain = net.programs.network.plain
    seen = kernel.resize(jnp.asarray(images), net.size, plain)
    maps = np.asarray(jax.jit(partial(grad_cam, net.programs.network))(params, stats, seen, classes))
    side = max(round(net.size / plain.crop), net.size)
    before = (side - net.size) // 2
    return np.pad(maps, ((0, 0), *[(before, side - net.size - before)] * 2))


def _views(net: Predictor, examples: EvalExamples, views: int | None, ui: NullConsole, title: str) -> ViewPredictions:
    experiment = net.experiment
    if views is not None:
        experiment = dataclasses.replace(experiment, evaluate=dataclasses.replace(experiment.evaluate, tta_views=views))
        fix = "random views are augmented images, and the experiment augments none; leave it out"
        require(not views or tta.view_count(experiment.evaluate, experiment.augment) > 1, "tta_views", views, fix)
    network = NetworkState(net.params, net.stats, net.size)
    threshold = net.threshold(tta.view_count(experiment.evaluate, experiment.augment))
    return predict_views(net.programs, experiment, network, examples, ui, title, threshold=threshold)
