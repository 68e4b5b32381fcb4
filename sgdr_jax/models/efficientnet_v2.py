"""EfficientNetV2: fused blocks first, then inverted residual blocks with squeeze-and-excitation. Source: Tan & Le 2021.

The published weights are Google's, with TensorFlow's padding and epsilon; only EfficientNetV2RwS is by timm's author, before Google's code
was out: with symmetric padding and other widths.

Example:
    >>> EfficientNetV2B0().groups, EfficientNetV2B0().blocks[-2:]
    (('early', 'late', 'head'), ('block20', 'top'))
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Tensors
from .inverted_residual import Block, InvertedResiduals

# Kind, repeats, stride, expansion, output channels, squeeze-and-excitation or not of each stage of the unscaled network.
type StageSpec = tuple[Literal["plain", "fused", "inverted"], int, int, int, int, bool]


@dataclass(frozen=True)
class EfficientNetV2(InvertedResiduals):
    """Base class of the EfficientNetV2s."""

    cuts: tuple[str, ...] = ("block5",)
    """Blocks (block0, …, top) at which a new layer group begins."""

    activation: ClassVar = "silu"
    eps: ClassVar = 1e-3
    same: ClassVar = True
    stages: ClassVar[tuple[StageSpec, ...]] = (
        ("plain", 1, 1, 1, 16, False),
        ("fused", 2, 2, 4, 32, False),
        ("fused", 2, 2, 4, 48, False),
        ("inverted", 3, 2, 4, 96, True),
        ("inverted", 5, 1, 6, 112, True),
        ("inverted", 8, 2, 6, 192, True),
    )
    stem: ClassVar[int] = 32
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0

    def _channels(self, channels: int) -> int:
        """Round scaled channels to the nearest multiple of 8; unlike in version 1, this may be more than 10% below."""
        return max(8, int(channels * self.width + 4) // 8 * 8)

    def table(self) -> tuple[Block, ...]:
        """List the blocks between stem and top.

        >>> EfficientNetV2B0().table()[1].units, EfficientNetV2B0().table()[5].units
        (('fused', 'project'), ('expand', 'depthwise', 'squeeze', 'project'))
        """
        rows: list[Block] = []
        inputs = self._channels(self.stem)
        for stage, (kind, repeats, stride, expand, channels, squeezed) in enumerate(self.stages):
            outputs = self._channels(channels)
            for i in range(math.ceil(repeats * self.depth)):
                squeeze = inputs // 4 if squeezed else 0
                rows.append(Block(stage, i, 3, 1 if i else stride, inputs, inputs * expand, outputs, squeeze, self.activation, kind))
                inputs = outputs
        return tuple(rows)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        yield from self.timm_tensors()


@dataclass(frozen=True)
class EfficientNetV2B0(EfficientNetV2):
    """EfficientNetV2-B0: 5.9 million parameters in the body, trained at 192 pixels."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnetv2_b0.in1k"
    size: ClassVar = 192


@dataclass(frozen=True)
class EfficientNetV2B1(EfficientNetV2):
    """EfficientNetV2-B1: 6.9 million parameters in the body, trained at 192 pixels."""

    cuts: tuple[str, ...] = ("block8",)
    """Blocks (block0, …, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnetv2_b1.in1k"
    size: ClassVar = 192
    depth: ClassVar = 1.1


@dataclass(frozen=True)
class EfficientNetV2B2(EfficientNetV2):
    """EfficientNetV2-B2: 8.7 million parameters in the body, trained at 208 pixels."""

    cuts: tuple[str, ...] = ("block8",)
    """Blocks (block0, …, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnetv2_b2.in1k"
    features: ClassVar = 1408
    size: ClassVar = 208
    width: ClassVar = 1.1
    depth: ClassVar = 1.2


@dataclass(frozen=True)
class EfficientNetV2B3(EfficientNetV2):
    """EfficientNetV2-B3: 12.8 million parameters in the body, trained on ImageNet-21k, then ImageNet, at 240 pixels."""

    cuts: tuple[str, ...] = ("block8",)
    """Blocks (block0, …, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnetv2_b3.in21k_ft_in1k"
    features: ClassVar = 1536
    size: ClassVar = 240
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.5, 0.5, 0.5)
    width: ClassVar = 1.2
    depth: ClassVar = 1.4


@dataclass(frozen=True)
class EfficientNetV2S(EfficientNetV2):
    """EfficientNetV2-S: 20.2 million parameters in the body, trained on ImageNet-21k, then ImageNet, at 300 pixels."""

    cuts: tuple[str, ...] = ("block10",)
    """Blocks (block0, …, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnetv2_s.in21k_ft_in1k"
    size: ClassVar = 300
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.5, 0.5, 0.5)
    stages: ClassVar = (
        ("plain", 2, 1, 1, 24, False),
        ("fused", 4, 2, 4, 48, False),
        ("fused", 4, 2, 4, 64, False),
        ("inverted", 6, 2, 4, 128, True),
        ("inverted", 9, 1, 6, 160, True),
        ("inverted", 15, 2, 6, 256, True),
    )
    stem: ClassVar = 24


@dataclass(frozen=True)
class EfficientNetV2M(EfficientNetV2):
    """EfficientNetV2-M: 52.9 million parameters in the body, trained on ImageNet-21k, then ImageNet, at 384 pixels."""

    cuts: tuple[str, ...] = ("block13",)
    """Blocks (block0, …, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnetv2_m.in21k_ft_in1k"
    size: ClassVar = 384
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.5, 0.5, 0.5)
    stages: ClassVar = (
        ("plain", 3, 1, 1, 24, False),
        ("fused", 5, 2, 4, 48, False),
        ("fused", 5, 2, 4, 80, False),
        ("inverted", 7, 2, 4, 160, True),
        ("inverted", 14, 1, 6, 176, True),
        ("inverted", 18, 2, 6, 304, True),
        ("inverted", 5, 1, 6, 512, True),
    )
    stem: ClassVar = 24


@dataclass(frozen=True)
class EfficientNetV2RwS(EfficientNetV2S):
    """EfficientNetV2-S as timm's author built it from the paper: 22.2 million parameters in the body, trained at 288 pixels."""

    imagenet: ClassVar = "hf-hub:timm/efficientnetv2_rw_s.ra2_in1k"
    features: ClassVar = 1792
    size: ClassVar = 288
    mean: ClassVar = (0.485, 0.456, 0.406)
    std: ClassVar = (0.229, 0.224, 0.225)
    eps: ClassVar = 1e-5
    same: ClassVar = False
    stages: ClassVar = (
        ("fused", 2, 1, 1, 24, False),
        *EfficientNetV2S.stages[1:5],
        ("inverted", 15, 2, 6, 272, True),
    )
