"""RegNetY: residual bottlenecks of grouped convolutions with squeeze-and-excitation, whose widths and depths follow a linear rule.

Source: Radosavovic et al. 2020.

Example:
    >>> RegNetY002().split()["early"]
    ('stem', 'layer1.block0', 'layer2.block0')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import KERNEL, ChainModel, Tensors, conv_bn

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-5
STEM = 32


@dataclass(frozen=True)
class RegNetY(ChainModel):
    """Base class of the RegNetYs: a stem and four layers of blocks x + conv3(se(conv2(conv1(x)))), each of which begins with stride 2."""

    cuts: tuple[str, ...] = ("layer3",)
    """Blocks (layer1 … layer4, or finer, as layer3.block4) at which a new layer group begins."""

    classifier: ClassVar = ("head.fc",)
    depths: ClassVar[tuple[int, int, int, int]]  # blocks in each layer
    widths: ClassVar[tuple[int, int, int, int]]  # channels of each layer
    group_width: ClassVar[int]  # channels of each group of the 3×3 convolutions

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", *(f"layer{layer}.block{i}" for layer, depth in enumerate(self.depths, 1) for i in range(depth)))

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from jax.nn import relu

        from .blocks import ConvBN

        modules: dict[str, nnx.Module] = {"stem": ConvBN(3, channels, STEM, eps=EPS, stride=2, padding=1, activation=relu)}
        inputs = STEM
        for layer, (depth, outputs) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            for i in range(depth):
                modules[f"layer{layer}.block{i}"] = self._block(inputs, outputs, 2 if i == 0 else 1)
                inputs = outputs
        return modules

    def _block(self, inputs: int, outputs: int, stride: int) -> nnx.Module:
        from jax.nn import relu, sigmoid

        from .blocks import ConvBN, Residual, SqueezeExcite

        row = {
            "conv1": ConvBN(1, inputs, outputs, eps=EPS, activation=relu),
            "conv2": ConvBN(3, outputs, outputs, eps=EPS, stride=stride, padding=1, groups=outputs // self.group_width, activation=relu),
            "se": SqueezeExcite(outputs, inputs // 4, relu, sigmoid),
            "conv3": ConvBN(1, outputs, outputs, eps=EPS),
        }
        return Residual(row, None if stride == 1 else ConvBN(1, inputs, outputs, eps=EPS, stride=stride), relu)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        yield from conv_bn("stem.conv", "stem.bn", ("stem",))
        for layer, depth in enumerate(self.depths, 1):
            for i in range(depth):
                theirs, ours = f"s{layer}.b{i + 1}", f"layer{layer}.block{i}"
                for n in (1, 2, 3):
                    yield from conv_bn(f"{theirs}.conv{n}.conv", f"{theirs}.conv{n}.bn", (ours, f"conv{n}"))
                yield f"{theirs}.se.fc1", (ours, "se", "reduce"), KERNEL
                yield f"{theirs}.se.fc2", (ours, "se", "expand"), KERNEL
                if i == 0:
                    yield from conv_bn(f"{theirs}.downsample.conv", f"{theirs}.downsample.bn", (ours, "down"))


@dataclass(frozen=True)
class RegNetY002(RegNetY):
    """RegNetY-200MF: 2.8 million parameters in the body, 368 features."""

    imagenet: ClassVar = "hf-hub:timm/regnety_002.pycls_in1k"
    features: ClassVar = 368
    depths: ClassVar = (1, 1, 4, 7)
    widths: ClassVar = (24, 56, 152, 368)
    group_width: ClassVar = 8


@dataclass(frozen=True)
class RegNetY004(RegNetY):
    """RegNetY-400MF: 3.9 million parameters in the body, 440 features."""

    imagenet: ClassVar = "hf-hub:timm/regnety_004.tv2_in1k"
    features: ClassVar = 440
    depths: ClassVar = (1, 3, 6, 6)
    widths: ClassVar = (48, 104, 208, 440)
    group_width: ClassVar = 8


@dataclass(frozen=True)
class RegNetY006(RegNetY):
    """RegNetY-600MF: 5.4 million parameters in the body, 608 features."""

    imagenet: ClassVar = "hf-hub:timm/regnety_006.pycls_in1k"
    features: ClassVar = 608
    depths: ClassVar = (1, 3, 7, 4)
    widths: ClassVar = (48, 112, 256, 608)
    group_width: ClassVar = 16


@dataclass(frozen=True)
class RegNetY008(RegNetY):
    """RegNetY-800MF: 5.5 million parameters in the body, 768 features."""

    imagenet: ClassVar = "hf-hub:timm/regnety_008.pycls_in1k"
    features: ClassVar = 768
    depths: ClassVar = (1, 3, 8, 2)
    widths: ClassVar = (64, 128, 320, 768)
    group_width: ClassVar = 16


@dataclass(frozen=True)
class RegNetY016(RegNetY):
    """RegNetY-1.6GF: 10.3 million parameters in the body, 888 features."""

    imagenet: ClassVar = "hf-hub:timm/regnety_016.tv2_in1k"
    features: ClassVar = 888
    depths: ClassVar = (2, 6, 17, 2)
    widths: ClassVar = (48, 120, 336, 888)
    group_width: ClassVar = 24


@dataclass(frozen=True)
class RegNetY032(RegNetY):
    """RegNetY-3.2GF: 17.9 million parameters in the body, 1512 features."""

    imagenet: ClassVar = "hf-hub:timm/regnety_032.ra_in1k"
    features: ClassVar = 1512
    depths: ClassVar = (2, 5, 13, 1)
    widths: ClassVar = (72, 216, 576, 1512)
    group_width: ClassVar = 24
