"""What all chain networks share as descriptions: where the chain is cut, which weights it starts from, what its head looks like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..core.types import Model
from ..core.validation import require

if TYPE_CHECKING:
    from .chain import Network

# Names of a module's tensors in weight files with ours: of a convolution or linear layer with and without bias, and of a normalisation.
KERNEL: Mapping[str, str] = {"weight": "kernel", "bias": "bias"}
BARE: Mapping[str, str] = {"weight": "kernel"}
NORM: Mapping[str, str] = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}

Tensors = tuple[str, tuple[str, ...], Mapping[str, str]]

HUB = re.compile(r"hf-hub:((?:[\w-][\w.-]*)/(?:[\w-][\w.-]*))(?:@([\w./-]+))?", re.ASCII)  # repository and revision


def conv_bn(conv: str, bn: str, path: tuple[str, ...]) -> tuple[Tensors, Tensors]:
    """A convolution and its batch normalisation in weight files, which are one `ConvBN` in our trees."""
    return (conv, path, BARE), (bn, (*path, "bn"), NORM)


@dataclass(frozen=True)
class ChainModel(Model):
    """A network whose body is a chain of named blocks, with fastai's concat-pool head in the place of its classifier.

    A new architecture is a file with a subclass that states `blocks`, `modules` and `tensors`.
    """

    weights: str | None = "imagenet"
    """Where the weights come from: "imagenet", a .safetensors or .pth file, "hf-hub:OWNER/NAME" of a timm network (also with @REVISION),
    or None for random ones. Mean and std of the images are those of its config.json (on the hub, or beside the file) where it has one."""
    head: Literal["new", "classifier"] = "new"
    """"new": the concat-pool head, always with fresh weights. "classifier": average pooling and one linear layer, as the network was
    trained, with the classifier of the weight file: the data must have its classes, in its order. It has no dropout."""
    cuts: tuple[str, ...] = ()
    """Blocks at which a new layer group of the body begins, in network order; "layer3" stands for the first block of that layer,
    "layer3.block0". One cut makes the groups early, late and head; otherwise a group has the name of its cut."""
    dropout: tuple[float, float] = (0.25, 0.5)
    """Dropout of the head, before its hidden layer and before its last one; without a hidden layer only the second applies."""
    hidden: int = 512
    """Width of the head's hidden layer; 0 for a single linear layer."""

    imagenet: ClassVar[str]  # what weights="imagenet" stands for: "hf-hub:REPOSITORY", "package:" and an installed package, or ""
    timm: ClassVar[str] = ""  # the architecture's name in timm, where `imagenet` is no repository of timm
    classifier: ClassVar[tuple[str, ...]]  # its name in weight files
    features: ClassVar[int]  # channels that leave the body (and `after_pool`)
    size: ClassVar[int] = 224  # side in pixels of the images that the ImageNet weights were trained with
    mean: ClassVar[tuple[float, float, float]]  # of these images (0…1), unless the config.json of the weights says otherwise
    std: ClassVar[tuple[float, float, float]]

    def __post_init__(self) -> None:
        require(self.head in ("new", "classifier"), "model.head", self.head, "use new or classifier")
        if (self.weights or "").startswith("hf-hub:"):
            hub = HUB.fullmatch(str(self.weights))
            require(hub is not None, "model.weights", self.weights, 'write "hf-hub:OWNER/NAME" or "hf-hub:OWNER/NAME@REVISION"')
            assert hub is not None
            if hub[1].startswith("timm/"):
                self.check_architecture(hub[1].removeprefix("timm/"))
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
        """The architecture's name in timm; "" where it has none.

        >>> from sgdr_jax.models import ResNet18
        >>> ResNet18.architecture()
        'resnet18'
        """
        hub = HUB.fullmatch(cls.imagenet)
        return cls.timm or (hub[1].removeprefix("timm/").partition(".")[0] if hub and hub[1].startswith("timm/") else "")

    def check_architecture(self, name: str) -> None:
        """Refuses weights of another architecture of timm (NAME or NAME.TAG); they may fit tensor by tensor and compute something else."""
        ours, theirs, kind = self.architecture(), name.partition(".")[0], type(self).__name__
        why = " (same tensors, but other padding and epsilon)" if ours.removeprefix("tf_") == theirs.removeprefix("tf_") else ""
        other = next((f", or the model {name}" for name, other in networks().items() if other.architecture() == theirs), "")
        fix = f"they are of timm's {theirs}, and {kind} is timm's {ours}{why}; use weights of {ours}{other}"
        require(ours in ("", theirs), "model.weights", self.weights, fix)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the body's blocks from input to output; those of one layer are called LAYER.BLOCK."""
        raise NotImplementedError

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the layer groups from input to output."""
        return (*self.split(), "head")

    def split(self) -> dict[str, tuple[str, ...]]:
        """The body's groups, each with the names of its blocks."""
        names = ("early", "late") if len(self.cuts) == 1 else (self.blocks[0], *self.cuts)
        places = self._places()
        edges = (0, *(places[cut] for cut in self.cuts), len(self.blocks))
        return {name: self.blocks[a:b] for name, a, b in zip(names, edges, edges[1:], strict=False)}

    def _places(self) -> dict[str, int]:
        """Names of layers and blocks with their place in the chain; a layer is where its first block is."""
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

    def modules(self, channels: int) -> dict[str, Any]:
        """The body's blocks as NNX modules for images of this many channels."""
        raise NotImplementedError

    def after_pool(self) -> Any:
        """What the ImageNet network has between pooling and its linear classifier, as an NNX module; None if nothing.

        It belongs to the body, at the path ("pool", "then"), and takes pooled images [b, 1, 1, c] to [b, 1, 1, features]. The concat-pool
        head gets both the maximum and the mean through it, so that it sees what the ImageNet classifier saw.
        """
        return None

    def tensors(self) -> Iterator[Tensors]:
        """Which modules the tensors of weight files belong to: torch's name of each module, its path in our trees, and its leaves.

        A file may follow any of several namings; a module then comes once for each.
        """
        raise NotImplementedError

    def names(self) -> dict[str, tuple[str, ...]]:
        """Every tensor's name in weight files with its path in our trees without the group: (block, …, leaf), or ("head", …).

        >>> from sgdr_jax.models import ResNet18
        >>> ResNet18().names()["layer2.0.downsample.1.running_mean"]
        ('layer2.block0', 'down', 'conv', 'bn', 'mean')
        """
        heads = ((name, ("head", "linear"), KERNEL) for name in self.classifier)
        return {
            f"{module}.{theirs}": (*path, ours) for module, path, leaves in (*self.tensors(), *heads) for theirs, ours in leaves.items()
        }

    def reference_head(self, classes: int) -> tuple[Any, Any]:
        """The pooling and the classifier that the ImageNet weights were trained with, as NNX modules."""
        from .head import AveragePool, LinearHead

        return AveragePool(self.after_pool()), LinearHead(self.features, classes)

    def build(self, classes: int, channels: int = 3, *, reference: bool = False) -> Network:
        """The network of pure functions for this many classes and image channels.

        A grey image (`channels=1`) is repeated over the three channels of the first convolution by the normalisation, so it gives exactly
        what its three-channel copy gives, whatever mean and std are. With more channels, mean and std repeat those of red, green and
        blue. With `reference` the head is the network's own classifier, whatever `head` says.
        """
        import numpy as np

        from .chain import network
        from .head import ConcatPool, Head

        require(classes >= 1, "classes", classes, "give at least one")
        require(channels >= 1, "channels", channels, "give at least one")
        inputs = 3 if channels == 1 else channels
        modules = self.modules(inputs)
        groups = {name: {block: modules[block] for block in blocks} for name, blocks in self.split().items()}
        last = self.groups[-2]
        if reference or self.head == "classifier":
            groups[last]["pool"], head = self.reference_head(classes)
        else:
            groups[last]["pool"], head = ConcatPool(self.after_pool()), Head(2 * self.features, self.hidden, classes, self.dropout)
        mean, std = (np.resize(np.array(values, np.float32), inputs) for values in (self.mean, self.std))
        return network(groups | {"head": {"": head}}, mean, std)


def networks() -> dict[str, type[ChainModel]]:
    """All networks of `sgdr_jax.models` by name."""
    kinds = {kind.__name__: kind for kind in _subclasses(ChainModel) if kind.__module__.startswith(f"{__package__}.")}
    by_number = sorted(kinds, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    return {name: kinds[name] for name in by_number if hasattr(kinds[name], "imagenet")}


def _subclasses(kind: type[ChainModel]) -> Iterator[type[ChainModel]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
