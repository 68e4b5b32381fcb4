"""Configuration common to all chain networks: where the chain is cut, which weights it starts from, which head it has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

from ..core.errors import InputError, did_you_mean
from ..core.text import several
from ..core.types import OMIT_DEFAULT, Model
from ..core.validation import require

if TYPE_CHECKING:
    from flax import nnx

    from .chain import Maps, Network

# Tensor names in weight files, mapped to ours: of a convolution or linear layer with and without bias, and of a normalisation.
KERNEL: Mapping[str, str] = {"weight": "kernel", "bias": "bias"}
BARE: Mapping[str, str] = {"weight": "kernel"}
NORM: Mapping[str, str] = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}

type Tensors = tuple[str, tuple[str, ...], Mapping[str, str]]

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
"""Ends of the names of weights files, which no tag has."""
TAG = re.compile(r"[a-z0-9][a-z0-9_]*", re.ASCII)
HUB = re.compile(r"hf-hub:((?:[\w-][\w.-]*)/(?:[\w-][\w.-]*))(?:@([\w./-]+))?", re.ASCII)  # repository and revision


def conv_bn(conv: str, bn: str, path: tuple[str, ...]) -> tuple[Tensors, Tensors]:
    """Return the tensors of a convolution and its batch normalisation in weight files, which form one `ConvBN` in our trees."""
    return (conv, path, BARE), (bn, (*path, "bn"), NORM)


def numbered(depths: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """Return the names of the blocks of each stage, numbered throughout.

    >>> numbered((2, 3))
    (('block0', 'block1'), ('block2', 'block3', 'block4'))
    """
    names = (f"block{i}" for i in range(sum(depths)))
    return tuple(tuple(islice(names, depth)) for depth in depths)


@dataclass(frozen=True)
class ChainModel(Model):
    """A network whose body is a chain of named blocks, with fastai's concat-pool head in place of its classifier.

    A new architecture is a file with a subclass that defines `blocks`, `modules` and `tensors`.
    """

    weights: str | None = "imagenet"
    """Source of the weights: "imagenet", a tag of the architecture in timm (`sgdr-jax models NAME --weights` lists them), a .safetensors or
    .pth file, "hf-hub:OWNER/NAME" of a timm network (optionally with @REVISION), or None for random ones. Mean and std of the images come
    from its config.json (on the hub, or beside the file) if there is one, and except for "imagenet" their interpolation and crop too."""
    head: Literal["new", "classifier"] = "new"
    """"new": the concat-pool head, always with fresh weights. "classifier": average pooling and one linear layer without dropout, as the
    network was trained, with the classifier of the weight file: the data must have its classes, in its order."""
    cuts: tuple[str, ...] = ()
    """Blocks at which a new layer group of the body begins, in network order; "layer3" stands for the first block of that layer,
    "layer3.block0". One cut makes the groups early, late and head; otherwise a group is named after its cut."""
    dropout: tuple[float, float] = (0.25, 0.5)
    """Dropout of the head, before its hidden layer and before its last one; without a hidden layer only the second applies."""
    hidden: int = 0
    """Width of the head's hidden layer (512 in fastai); 0 for a single linear layer, which `Stage.solve` can solve."""

    crop: float | None = field(default=None, kw_only=True, metadata=OMIT_DEFAULT)
    """Share of the side, about the centre, that the network sees of a plain image, and that augmentations begin with; None: the share that
    the evaluation of the weights used, and for "imagenet" all of it."""

    imagenet: ClassVar[str]  # what weights="imagenet" stands for: "hf-hub:REPOSITORY", "package:" and an installed package, or ""
    timm: ClassVar[str] = ""  # the architecture's name in timm, where `imagenet` is not a repository of timm
    classifier: ClassVar[tuple[str, ...]]  # its name in weight files
    features: ClassVar[int]  # channels that leave the body (and `after_pool`)
    pooling: ClassVar[str] = "avg"  # of the network's own classifier, by timm's word
    # Last parts of the names of tensors in weight files that hold no weights: counters, and constants that torch keeps as buffers.
    buffers: ClassVar[tuple[str, ...]] = ("num_batches_tracked",)
    size: ClassVar[int] = 224  # side in pixels of the images that the ImageNet weights were trained with
    patch: ClassVar[int] = 1  # side in pixels of the patches into which images are cut, whose rest is not seen; 1 for none
    # Of these images (0…1), unless overridden by the config.json of the weights.
    mean: ClassVar[tuple[float, float, float]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, float, float]] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        require(self.head in ("new", "classifier"), "model.head", self.head, "use new or classifier")
        if (self.weights or "").startswith("hf-hub:"):
            hub = HUB.fullmatch(str(self.weights))
            require(hub is not None, "model.weights", self.weights, 'write "hf-hub:OWNER/NAME" or "hf-hub:OWNER/NAME@REVISION"')
            assert hub is not None
            if hub[1].startswith("timm/"):
                self.check_architecture(hub[1].removeprefix("timm/"))
        elif self.weights == "imagenet":
            default = type(self).weights
            own = f"{default!r}, the default" if default else "None"
            fix = f"there are none for this network; use {own}, or a file"
            require(self.imagenet != "" or default == "imagenet", "model.weights", self.weights, fix)
        elif self.weights is not None:
            self._check_tag(self.weights)
        require(self.crop is None or 0 < self.crop <= 1, "model.crop", self.crop, "use a share of the side in 0…1, or None")
        places = self._places()
        for cut in self.cuts:
            require(places.get(cut, 0) > 0, "model.cuts", cut, f"{type(self).__name__} can be cut at {self._choice()}")
        edges = [places[cut] for cut in self.cuts]
        require(edges == sorted(set(edges)), "model.cuts", self.cuts, "name each block once, in network order")
        require(
            len(self.dropout) == 2 and all(0 <= rate < 1 for rate in self.dropout),
            "model.dropout",
            self.dropout,
            "use two rates in 0…1, below 1",
        )
        require(self.hidden >= 0, "model.hidden", self.hidden, "use a width, or 0 for a single linear layer")

    @classmethod
    def architecture(cls) -> str:
        """Return the architecture's name in timm, or "".

        >>> from sgdr_jax.models import ResNet18
        >>> ResNet18.architecture()
        'resnet18'
        """
        hub = HUB.fullmatch(cls.imagenet)
        return cls.timm or (hub[1].removeprefix("timm/").partition(".")[0] if hub and hub[1].startswith("timm/") else "")

    def timm_options(self, size: int) -> dict[str, int | bool]:
        """Return what `timm.create_model` must be given so that its network takes images of `size` pixels.

        >>> from sgdr_jax.models import ResNet18, SwinV2Tiny
        >>> ResNet18().timm_options(96), SwinV2Tiny().timm_options(96)
        ({}, {'img_size': 96})
        """
        return {}

    def check_architecture(self, name: str) -> None:
        """Raise InputError for weights of another timm architecture (NAME or NAME.TAG), which may fit but compute something else."""
        ours, theirs, kind = self.architecture(), name.partition(".")[0], type(self).__name__
        why = " (same tensors, but other padding and epsilon)" if ours.removeprefix("tf_") == theirs.removeprefix("tf_") else ""
        other = next((f", or the model {name}" for name, other in networks().items() if other.architecture() == theirs), "")
        fix = f"they are of timm's {theirs}, and {kind} is timm's {ours}{why}; use weights of {ours}{other}"
        require(ours in ("", theirs), "model.weights", self.weights, fix)

    def _check_tag(self, weights: str) -> None:
        """Raise InputError for the recorded tag of another architecture, or a name of timm with the architecture in front."""
        from .pretrained.tags import UNUSABLE, all_tags, tags

        if weights.endswith(WEIGHT_FILES):
            return
        require(weights not in UNUSABLE, "model.weights", weights, UNUSABLE.get(weights, ""))
        kind, (front, _, tag) = type(self).__name__, weights.partition(".")
        if tag and TAG.fullmatch(tag) and front in (*all_tags(), self.architecture()):
            self.check_architecture(front)
            require(False, "model.weights", weights, f'write the tag alone, "{tag}": the architecture is {kind}')
        own = tags(self.architecture())
        if TAG.fullmatch(weights):
            self.check_architecture(f"{self.architecture()}.{weights}")
        if not TAG.fullmatch(weights) or weights in own:
            return
        owners = [name for name, network in networks().items() if weights in tags(network.architecture())]
        known = f"those of {kind} are {', '.join(own)}" if own else f"timm has no weights of {kind}"
        require(not owners, "model.weights", weights, f"it is a tag of {several(owners)}; {known}")

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the body's blocks from input to output; the blocks of a layer are named LAYER.BLOCK."""
        raise NotImplementedError

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the layer groups from input to output."""
        return (*self.split(), "head")

    @property
    def maps(self) -> Maps:
        """Where class activation maps are taken: where the body pools."""
        from .chain import Maps

        return Maps()

    @property
    def batch_norm(self) -> bool:
        """Whether the body has batch normalisation.

        >>> from sgdr_jax.models import ResNet18, ViTSmall16
        >>> ResNet18().batch_norm, ViTSmall16().batch_norm
        (True, False)
        """
        return any(leaf == "var" for *_, leaf in self.names().values())

    @property
    def linear_head(self) -> bool:
        """Whether the head is batch normalisation, dropout and one linear layer."""
        return self.head == "new" and not self.hidden

    def split(self) -> dict[str, tuple[str, ...]]:
        """Return the body's groups, each with the names of its blocks."""
        names = ("early", "late") if len(self.cuts) == 1 else (self.blocks[0], *self.cuts)
        places = self._places()
        edges = (0, *(places[cut] for cut in self.cuts), len(self.blocks))
        return {name: self.blocks[a:b] for name, a, b in zip(names, edges, edges[1:], strict=False)}

    def _places(self) -> dict[str, int]:
        """Return the positions of all layers and blocks in the chain; a layer begins at its first block."""
        places: dict[str, int] = {}
        for place, block in enumerate(self.blocks):
            layer, _, _ = block.partition(".")
            places.setdefault(layer, place)
            places[block] = place
        return places

    def _choice(self) -> str:
        layers = ", ".join(name for name, place in self._places().items() if place and "." not in name)
        finer = [block for block in self.blocks if "." in block]
        return layers + (f", and within them, as {finer[-1]}" if finer else "")

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        """Build the body's blocks as NNX modules for images of this many channels."""
        raise NotImplementedError

    def after_pool(self) -> nnx.Module | None:
        """Build the module between pooling and linear classifier of the ImageNet network; None if there is none.

        It belongs to the body, at the path ("pool", "then"), and maps pooled images [b, 1, 1, c] to [b, 1, 1, features]. The concat-pool
        head receives both the maximum and the mean through it, as the ImageNet classifier received the mean.
        """
        return None

    def tensors(self) -> Iterator[Tensors]:
        """Yield torch's name of each module in weight files, its path in our trees, and the names of its leaves.

        Files may follow one of several naming schemes; a module is then yielded once for each.
        """
        raise NotImplementedError

    def names(self) -> dict[str, tuple[str, ...]]:
        """Map every tensor's name in weight files to its path in our trees without the group: (block, …, leaf), or ("head", …).

        >>> from sgdr_jax.models import ResNet18
        >>> ResNet18().names()["layer2.0.downsample.1.running_mean"]
        ('layer2.block0', 'down', 'conv', 'bn', 'mean')
        """
        heads = ((name, ("head", "linear"), KERNEL) for name in self.classifier)
        return {
            f"{module}.{theirs}": (*path, ours) for module, path, leaves in (*self.tensors(), *heads) for theirs, ours in leaves.items()
        }

    def new_pool(self) -> nnx.Module:
        """Build the pooling in front of the new head, to [b, 2 · features]: maximum and mean over the image."""
        from .head import ConcatPool

        return ConcatPool(self.after_pool())

    def reference_head(self, classes: int) -> tuple[nnx.Module, nnx.Module]:
        """Build the pooling and the classifier that the ImageNet weights were trained with, as NNX modules."""
        from .head import AveragePool, LinearHead

        return AveragePool(self.after_pool()), LinearHead(self.features, classes)

    def build(self, classes: int, channels: int = 3, *, reference: bool = False) -> Network:
        """Build the network of pure functions for this many classes and image channels.

        The normalisation repeats a grey image (`channels=1`) over the three channels of the first convolution, so that its logits are
        exactly those of its three-channel copy, for any mean and std. With more channels, mean and std repeat those of red, green and
        blue. With `reference` the head is the network's own classifier, regardless of `head`.
        """
        import numpy as np

        from ..augment.plain import PlainView
        from .chain import network
        from .head import Head

        require(classes >= 1, "classes", classes, "give at least one")
        require(channels >= 1, "channels", channels, "give at least one")
        inputs = 3 if channels == 1 else channels
        modules = self.modules(inputs)
        groups = {name: {block: modules[block] for block in blocks} for name, blocks in self.split().items()}
        last = self.groups[-2]
        if reference or self.head == "classifier":
            groups[last]["pool"], head = self.reference_head(classes)
        else:
            groups[last]["pool"], head = self.new_pool(), Head(2 * self.features, self.hidden, classes, self.dropout)
        mean, std = (np.resize(np.array(values, np.float32), inputs) for values in (self.mean, self.std))
        return network(groups | {"head": {"": head}}, mean, std, self.maps, PlainView(crop=self.crop or 1.0))


def model_named(name: str, option: str) -> ChainModel:
    """Return the network of a class of `sgdr_jax.models` in any case, or of timm's name; behind a dot a tag or a file of weights.

    >>> from sgdr_jax.models import ConvNeXtTiny
    >>> model_named("convnext_tiny.in12k_ft_in1k", "--model") == ConvNeXtTiny("in12k_ft_in1k")
    True
    >>> model_named("convnexttiny", "--model") == ConvNeXtTiny()
    True

    Args:
        name: of the network.
        option: that it was given by, to be named in an error.

    Raises:
        InputError: for an unknown network, or a tag of another one.
    """
    front, dot, tag = name.partition(".")
    kinds = networks()
    kind_of = {kind.architecture(): kind for kind in reversed(kinds.values())} | {known.lower(): kind for known, kind in kinds.items()}
    near = did_you_mean(front, kinds) or did_you_mean(front, [kind.architecture() for kind in kinds.values()])
    require(front.lower() in kind_of and front != "", option, name, f"{near}sgdr-jax models lists the networks")
    try:
        return kind_of[front.lower()](weights=tag) if dot else kind_of[front.lower()]()
    except InputError as error:  # "model.weights is TAG; FIX", a field that the command does not have
        raise InputError(f"{option} is {name!r}; {str(error).partition('; ')[2]}") from error


def model_name(model: ChainModel) -> str:
    """Return the class of a network and, unless they are its default, its weights; `model_named` finds them again.

    >>> from sgdr_jax.models import ConvNeXtTiny
    >>> model_name(ConvNeXtTiny()), model_name(ConvNeXtTiny("fb_in22k"))
    ('ConvNeXtTiny', 'ConvNeXtTiny.fb_in22k')
    """
    return type(model).__name__ + ("" if model.weights == type(model).weights else f".{model.weights}")


def networks() -> dict[str, type[ChainModel]]:
    """Return all networks of `sgdr_jax.models` by name."""
    kinds = {kind.__name__: kind for kind in _subclasses(ChainModel) if kind.__module__.startswith(f"{__package__}.")}
    by_number = sorted(kinds, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    return {name: kinds[name] for name in by_number if hasattr(kinds[name], "imagenet")}


def _subclasses(kind: type[ChainModel]) -> Iterator[type[ChainModel]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
