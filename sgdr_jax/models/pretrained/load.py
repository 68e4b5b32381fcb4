"""Loads pretrained weights into a network, strictly: every tensor fits or it is an error. The normalisation comes with the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from ...augment.plain import WHOLE, PlainView
from ...core.errors import InputError
from ...core.text import several
from ...core.types import Model
from ...core.validation import require
from ..base import ChainModel, networks
from . import tags
from .locate import Facts, find, known_facts
from .read import read_checkpoint, without_prefix

if TYPE_CHECKING:
    import jax

    from ...core.state import Tree
    from ..chain import Network

type Place = tuple[str, ...]
"""Path of a leaf in our trees, without the group: (block, …, leaf), or ("head", …)."""


class WeightsRecord(TypedDict, total=False):
    """Entry of a run folder about the loaded weights, empty for random ones: origin, hash, number of tensors, the fields of `Facts`.

    `inside` is there where the network lies within a checkpoint or under a prefix, `license` for recorded weights of timm, `plain` where
    plain images are not the whole image by the triangle filter.
    """

    origin: str
    sha256: str
    tensors: int
    by: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    size: int | None
    crop: float | None
    interpolation: str | None
    inside: str
    license: str
    plain: dict[str, str | float]


class Loaded(NamedTuple):
    """The result of loading weights.

    Attributes:
        source: the file, or None for random weights.
        tensors: number of tensors taken from it.
        left_over: names of its tensors that were not taken: the classifier's, and what lies beside the network.
        inside: where in the file the network lies, for people; "" for a file that holds nothing else.
        origin: name of the file for people: "timm/NAME@COMMIT", or its path.
        sha256: of the file, hex.
        facts: the images that it was trained with.
        plain: how plain images are made for it.
    """

    source: Path | None = None
    tensors: int = 0
    left_over: tuple[str, ...] = ()
    origin: str = ""
    sha256: str = ""
    facts: Facts = Facts()
    plain: PlainView = WHOLE
    inside: str = ""

    @property
    def license(self) -> str | None:
        """Short name of the licence of recorded weights of timm, "" for one that timm does not name; None for other weights."""
        known = tags.of_repository(self.origin.partition("@")[0])
        return known.license if known else None

    def record(self) -> WeightsRecord:
        """Return the entry of the run folder."""
        if not self.source:
            return {}
        facts: WeightsRecord = self.facts._asdict()  # pyright: ignore[reportAssignmentType] (its fields are those of the TypedDict)
        record: WeightsRecord = {"origin": self.origin, "sha256": self.sha256, "tensors": self.tensors, **facts}
        if self.inside:
            record["inside"] = self.inside
        if self.license is not None:
            record["license"] = self.license
        return record if self.plain == WHOLE else {**record, "plain": self.plain._asdict()}

    def __str__(self) -> str:
        if self.source is None:
            return "random weights"
        inside = f" ({self.inside})" if self.inside else ""
        text = f"{self.tensors} tensors of {self.origin}{inside}" + (f", without {several(self.left_over, 8)}" if self.left_over else "")
        facts = self.facts
        mean, std = (" ".join(f"{v:.4g}" for v in values or ()) for values in (facts.mean, facts.std))
        text += f"; images of mean {mean} and sd {std} ({facts.by})"
        size = f" to {facts.size} px" if facts.size else ""
        text += f", in training resized{size} by {facts.interpolation}" if facts.interpolation else ""
        if facts.interpolation or self.plain != WHOLE:
            # Decoding has its own filter, the same for every network, and so has the geometry of augmentations.
            crop = f"the middle {self.plain.crop:.4g} of the side " if self.plain.crop < 1 else ""
            text += f", here {crop}by area, then {self.plain.interpolation}"
        return text + (f"; they are under {tags.RESTRICTED[self.license or '']}" if self.license in tags.RESTRICTED else "")


def _check_values(path: Path, name: str, array: np.ndarray, leaf: str) -> None:
    """Raise InputError for values that cannot be those of a trained network in float32, where `leaf` is their name in our trees."""
    if np.iscomplexobj(array):
        raise InputError(f"{path}: tensor {name} is complex; give weights of real numbers")
    if array.dtype.kind in "biu":
        raise InputError(f"{path}: tensor {name} has whole numbers, perhaps of quantised weights; give weights of float32 or float16")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise InputError(
            f"{path}: tensor {name} has values that are not finite (NaN or infinite); fetch the file again or use other weights"
        )
    if leaf == "var" and (array < 0).any():
        raise InputError(f"{path}: tensor {name} has negative variances; fetch the file again or use other weights")


def start(model: Model, classes: int, channels: int, key: jax.Array) -> tuple[Network, Tree, Tree, Loaded]:
    """Build a model's network for training: with the normalisation of its weights, a pretrained body, and a fresh or pretrained head.

    Args:
        model: what to build.
        classes: number of classes.
        channels: of the images.
        key: for the values that are not loaded.

    Returns:
        The network, its parameters, its statistics, and what was loaded.

    Raises:
        InputError: as `load_into`.
    """
    network = model.build(classes, channels)
    params, stats = network.init(key)
    if not isinstance(model, ChainModel):
        return network, params, stats, Loaded()
    params, stats, loaded = load_into(model, network, params, stats)
    mean, std = loaded.facts.mean, loaded.facts.std
    return network.normalised(mean, std, loaded.plain) if mean and std else network, params, stats, loaded


def plain_view(model: Model, facts: Facts | None = None) -> PlainView:
    """Return how plain images are made for a model: as in the evaluation of its weights, and for "imagenet" and random ones whole.

    Args:
        model: the model.
        facts: of its weights; None for those that are recorded of them or, of others, beside their file.
    """
    if not isinstance(model, ChainModel):
        return WHOLE
    weights = model.weights or "imagenet"
    if weights == "imagenet":
        facts = Facts()
    elif facts is None:
        facts = known_facts(model)
    crop = model.crop if model.crop is not None else min(facts.crop or 1.0, 1.0)
    return PlainView("bicubic" if facts.interpolation == "bicubic" else "bilinear", crop)


def drawn_anew(model: Model, network: Network, loaded: Loaded, key: jax.Array) -> tuple[Tree, Tree]:
    """Initialize those groups of a network that `start` draws with the key, that is, all that it does not load."""
    if loaded.source is None or not isinstance(model, ChainModel):
        return network.init(key)
    return ({}, {}) if model.head == "classifier" else network.init(key, ("head",))


def load_into(model: ChainModel, network: Network, params: Mapping[str, Tree], stats: Mapping[str, Tree]) -> tuple[Tree, Tree, Loaded]:
    """Replace the body's parameters and statistics by those of `model.weights`, and with head="classifier" those of the head.

    A first convolution for more (or fewer) channels than the file's takes its kernels for red, green, blue, red, … times 3 / channels.
    Source: timm.

    Args:
        model: defines where the weights are and how their tensors are named.
        network: from `model.build`.
        params: parameters of all groups, from `network.init`; not modified.
        stats: statistics of all groups; not modified.

    Returns:
        New trees, and what was loaded. With `model.weights=None` the trees are returned as they are.

    Raises:
        InputError: naming tensors that are missing, left over or of the wrong shape, and the network that the file fits better.
    """
    if model.weights is None:
        return dict(params), dict(stats), Loaded()
    weights, names, own = find(model), model.names(), model.head == "classifier"
    checkpoint = read_checkpoint(weights.path)
    named = without_prefix(weights.path, checkpoint.tensors, names)
    tensors = {name: array for name, array in named.tensors.items() if not _is_buffer(model, name)}
    classifier = tuple(sorted(name for name in tensors if names.get(name, ("",))[0] == "head"))
    shapes = _shapes(network, own)
    if own:
        _check_classes(model, weights.path, tensors, shapes)
    taken = {name: array for name, array in tensors.items() if own or name not in classifier}
    matched = {names[name]: (name, _ours(array, names[name][-1])) for name, array in taken.items() if name in names}
    matched = {place: (name, _adapted(array, place, shapes, model, len(network.mean))) for place, (name, array) in matched.items()}
    order = sorted(shapes, key=lambda place: (*model.blocks, "pool", "head").index(place[0]))
    wrong = [(place, matched[place][0]) for place in order if place in matched and matched[place][1].shape != shapes[place]]
    problems = {
        "missing": ["/".join(place) for place in order if place not in matched],
        "left over": [name for name in taken if name not in names or names[name] not in shapes],
        "of the wrong shape": [f"{name} {tensors[name].shape} where {_torch(shapes[place])} is needed" for place, name in wrong],
    }
    if any(problems.values()):
        lists = "; ".join(f"{len(items)} {what}: {several(items)}" for what, items in problems.items() if items)
        kind, like = type(model).__name__, looks_like({name: array.shape for name, array in tensors.items()})
        fix = f"it looks like {like}: use that model, or weights of {kind}" if like not in ("", kind) else f"give weights of {kind}"
        raise InputError(f"{weights.path} does not fit {kind}: {lists}; {fix}")
    for place, (name, array) in matched.items():
        _check_values(weights.path, name, array, place[-1])
    arrays = {place: array for place, (_, array) in matched.items()}
    facts = weights.facts
    if not (facts.mean and facts.std):
        facts = facts._replace(by=f"{type(model).__name__}'s", mean=model.mean, std=model.std)
    sha256 = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    left_over = (*(() if own else classifier), *(name for name in named.beside if not _is_buffer(model, name)))
    inside = ["/".join(checkpoint.inside)] * bool(checkpoint.inside) + [f"names without {named.prefix}"] * bool(named.prefix)
    plain = plain_view(model, facts)
    loaded = Loaded(weights.path, len(matched), left_over, weights.origin, sha256, facts, plain, ", ".join(inside))
    return _replaced(params, arrays), _replaced(stats, arrays), loaded


def classifier(model: ChainModel) -> tuple[Network, Tree, Tree]:
    """Build the network as it was trained on ImageNet, with its own 1000-class head, and return it with parameters and statistics.

    Raises:
        InputError: as `load_into`, and where the file has no classifier of 1000 classes, or the network has no weights.
    """
    import jax

    require(model.weights is not None, "model.weights", None, "name weights with a classifier; those of a random network mean nothing")
    return start(replace(model, head="classifier"), 1000, 3, jax.random.key(0))[:3]


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the network whose body these tensors (name to shape, in torch's layout) fit best, or "" if none fits well.

    A network's score is the number of tensors that fit over the number of tensors in either; 0.9 is required.
    """
    best, most = "", 0.9
    for kind, network in networks().items():
        model = network(weights=None)
        names = model.names()
        matched = {names[name]: shape for name, shape in shapes.items() if name in names and names[name][0] != "head"}
        unknown = sum(name not in names and not _is_buffer(model, name) for name in shapes)
        total = len({place for place in names.values() if place[0] != "head"}) + unknown
        if len(matched) / total >= most:  # only then is it worth building
            ours = _shapes(model.build(1), False)
            score = sum(_torch(ours[place]) == shape for place, shape in matched.items() if place in ours) / total
            if score > most or (score == most and not best):
                best, most = kind, score
    return best


def _is_buffer(model: ChainModel, name: str) -> bool:
    return name.rpartition(".")[2] in model.buffers


def _shapes(network: Network, head: bool) -> dict[Place, tuple[int, ...]]:
    """Return the shape of every leaf of the body, in network order, and with `head` those of the head."""
    import jax

    shapes = {}
    for group in network.groups if head else network.groups[:-1]:
        for tree in network.shapes[group]:
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                shapes[(*(["head"] if group == "head" else []), *(key.key for key in path))] = leaf.shape
    return shapes


def _check_classes(model: ChainModel, path: Path, tensors: Mapping[str, np.ndarray], shapes: Mapping[Place, tuple[int, ...]]) -> None:
    """Raise InputError for head="classifier" if the file has no classifier, or one with another number of classes."""
    places = model.names()
    biases = [f"{name}.bias" for name in model.classifier]
    given = next((name for name in biases if name in tensors), None)
    if given is None:
        raise InputError(f'model.head is "classifier"; {path} has none ({" or ".join(biases)}), use head="new"')
    theirs, ours = len(tensors[given]), shapes[places[given]][0]
    if theirs != ours:
        raise InputError(f'model.head is "classifier"; that of {path} has {theirs} classes, {ours} are wanted: use head="new"')


def _adapted(array: np.ndarray, place: Place, shapes: Mapping[Place, tuple[int, ...]], model: ChainModel, channels: int) -> np.ndarray:
    """Adapt the kernel [h, w, channels of the file, o] of a convolution of the image to this many channels; return other arrays as is."""
    wanted, given = shapes.get(place, ()), array.shape[2] if array.ndim == 4 else 0
    if place[0] != model.blocks[0] or given not in (1, 3) or len(wanted) != 4 or wanted[2] != channels or given == channels:
        return array
    return array[:, :, np.arange(channels) % given] * np.float32(given / channels)


def _replaced(tree: Mapping[str, Tree], arrays: Mapping[Place, np.ndarray]) -> Tree:
    import jax

    def leaf(path: jax.tree_util.KeyPath, old: jax.Array) -> jax.Array:
        group, *inside = (key.key for key in path)
        place = ("head", *inside) if group == "head" else tuple(inside)
        return jax.numpy.asarray(arrays[place], np.float32) if place in arrays else old

    return jax.tree_util.tree_map_with_path(leaf, dict(tree))


def _ours(array: np.ndarray, leaf: str) -> np.ndarray:
    """Convert torch's layouts to ours: convolutions OIHW to HWIO, linear layers [outputs, inputs] to [inputs, outputs]."""
    if array.ndim == 3:  # tokens [1, n, c] are the same in both; torchvision's layer scale is [c, 1, 1]
        return array[:, 0, 0] if leaf == "gamma" else array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _torch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Convert a shape from our layout to torch's."""
    if len(shape) == 3:
        return shape
    return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else tuple(shape)[::-1]
