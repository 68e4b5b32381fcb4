"""DenseNet-121, -161, -169 and -201: every layer adds its channels to all those before it.

Source: Huang et al. 2016.

Example:
    >>> DenseNet121().groups, DenseNet121().features
    (('early', 'late', 'head'), 1024)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import BARE, NORM, ChainModel, Tensors, conv_bn

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-5


@dataclass(frozen=True)
class DenseNet(ChainModel):
    """Base class of the DenseNets: a stem, and four dense blocks with transitions between them that halve image and channels."""

    cuts: tuple[str, ...] = ("transition2",)
    """Blocks (dense1 … dense4, or finer, as dense3.layer12, transition1 … transition3, top) at which a new layer group begins; fastai's
    groups are stem to dense2, transition2 to top, head."""

    classifier: ClassVar = ("classifier",)
    smallest: ClassVar = 29
    depths: ClassVar[tuple[int, int, int, int]]  # layers in each dense block
    growth: ClassVar[int] = 32  # channels that a layer adds; the stem has twice as many

    @property
    def blocks(self) -> tuple[str, ...]:
        names = ["stem"]
        for dense, depth in enumerate(self.depths, 1):
            names += [f"dense{dense}.layer{i}" for i in range(depth)]
            names.append(f"transition{dense}" if dense < 4 else "top")
        return tuple(names)

    @property
    def features(self) -> int:
        """Channels that leave the body."""
        width = 2 * self.growth
        for dense, depth in enumerate(self.depths, 1):
            width = (width + depth * self.growth) // (2 if dense < 4 else 1)
        return width

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from jax.nn import relu

        from .blocks import BatchNorm, Conv, ConvBN, Dense, MaxPool, MeanPool, Sequential

        width = 2 * self.growth
        stem = {"conv": ConvBN(7, channels, width, eps=EPS, stride=2, padding=3, activation=relu), "pool": MaxPool()}
        modules: dict[str, nnx.Module] = {"stem": Sequential(stem)}
        for dense, depth in enumerate(self.depths, 1):
            for i in range(depth):
                row = {
                    "bn1": BatchNorm(width, EPS, activation=relu),
                    "conv1": Conv(1, width, 4 * self.growth),
                    "bn2": BatchNorm(4 * self.growth, EPS, activation=relu),
                    "conv2": Conv(3, 4 * self.growth, self.growth, padding=1),
                }
                modules[f"dense{dense}.layer{i}"] = Dense(row)
                width += self.growth
            bn = BatchNorm(width, EPS, activation=relu)
            if dense < 4:
                modules[f"transition{dense}"] = Sequential({"bn": bn, "conv": Conv(1, width, width // 2), "pool": MeanPool()})
                width //= 2
            else:
                modules["top"] = bn
        return modules

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm and torchvision, whose files also use norm.1 for norm1 and so on; see ChainModel.tensors."""
        yield from conv_bn("features.conv0", "features.norm0", ("stem", "conv"))
        for dense, depth in enumerate(self.depths, 1):
            for i in range(depth):
                theirs, ours = f"features.denseblock{dense}.denselayer{i + 1}", f"dense{dense}.layer{i}"
                for n in (1, 2):
                    for dot in ("", "."):
                        yield f"{theirs}.norm{dot}{n}", (ours, f"bn{n}"), NORM
                        yield f"{theirs}.conv{dot}{n}", (ours, f"conv{n}"), BARE
            if dense < 4:
                yield f"features.transition{dense}.norm", (f"transition{dense}", "bn"), NORM
                yield f"features.transition{dense}.conv", (f"transition{dense}", "conv"), BARE
        yield "features.norm5", ("top",), NORM


@dataclass(frozen=True)
class DenseNet121(DenseNet):
    """DenseNet-121: 7.0 million parameters in the body, 1024 features."""

    imagenet: ClassVar = "hf-hub:timm/densenet121.ra_in1k"
    depths: ClassVar = (6, 12, 24, 16)


@dataclass(frozen=True)
class DenseNet161(DenseNet):
    """DenseNet-161: 26.5 million parameters in the body, 2208 features."""

    imagenet: ClassVar = "hf-hub:timm/densenet161.tv_in1k"
    depths: ClassVar = (6, 12, 36, 24)
    growth: ClassVar = 48


@dataclass(frozen=True)
class DenseNet169(DenseNet):
    """DenseNet-169: 12.5 million parameters in the body, 1664 features."""

    imagenet: ClassVar = "hf-hub:timm/densenet169.tv_in1k"
    depths: ClassVar = (6, 12, 32, 32)


@dataclass(frozen=True)
class DenseNet201(DenseNet):
    """DenseNet-201: 18.1 million parameters in the body, 1920 features."""

    imagenet: ClassVar = "hf-hub:timm/densenet201.tv_in1k"
    depths: ClassVar = (6, 12, 48, 32)
