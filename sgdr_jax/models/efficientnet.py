"""EfficientNet B0 to B3 as timm and torchvision train them, and as Google did (Tf…). Source: Tan & Le 2019.

The two variants have the same tensors, but different epsilon and, at stride 2, different padding: weights of one give wrong results in the
other and are rejected.

Example:
    >>> EfficientNetB0().groups, EfficientNetB0().blocks[-2:]
    (('early', 'late', 'head'), ('block15', 'top'))
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from .base import Tensors
from .inverted_residual import Block, InvertedResiduals, rounded

# Repeats, kernel, stride, expansion, output channels of the seven stages of the unscaled network.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


@dataclass(frozen=True)
class EfficientNet(InvertedResiduals):
    """Base class of the EfficientNets, which differ in width and depth."""

    activation: ClassVar = "silu"
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0
    lite: ClassVar[bool] = False

    def table(self) -> tuple[Block, ...]:
        """List the blocks between stem and top.

        >>> EfficientNetB0().table()[5]  # doctest: +ELLIPSIS
        Block(stage=3, repeat=0, kernel=3, stride=2, inputs=40, wide=240, outputs=80, squeeze=10, activation='silu', ...)
        """
        rows: list[Block] = []
        inputs = 32 if self.lite else rounded(32 * self.width)
        for stage, (repeats, kernel, stride, expand, channels) in enumerate(STAGES):
            # The Lite networks do not deepen the first and last stages.
            fixed = self.lite and stage in (0, len(STAGES) - 1)
            outputs = rounded(channels * self.width)
            for i in range(repeats if fixed else math.ceil(repeats * self.depth)):
                squeeze = 0 if self.lite else inputs // 4
                rows.append(Block(stage, i, kernel, 1 if i else stride, inputs, inputs * expand, outputs, squeeze, self.activation))
                inputs = outputs
        return tuple(rows)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm and torchvision; see ChainModel.tensors."""
        yield from self.timm_tensors()
        yield from self.torchvision_tensors(lambda _, row: f"features.{row.stage + 1}.{row.repeat}.block", len(STAGES) + 1)


@dataclass(frozen=True)
class EfficientNetB0(EfficientNet):
    """EfficientNet-B0: 4.0 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block5",)
    """Blocks (block0 … block15, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/efficientnet_b0.ra_in1k"


@dataclass(frozen=True)
class EfficientNetB1(EfficientNet):
    """EfficientNet-B1: 6.5 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block8",)
    """Blocks (block0 … block22, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/efficientnet_b1.ft_in1k"
    depth: ClassVar = 1.1


@dataclass(frozen=True)
class EfficientNetB2(EfficientNet):
    """EfficientNet-B2: 7.7 million parameters in the body, trained at 256 pixels."""

    cuts: tuple[str, ...] = ("block8",)
    """Blocks (block0 … block22, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/efficientnet_b2.ra_in1k"
    features: ClassVar = 1408
    size: ClassVar = 256
    width: ClassVar = 1.1
    depth: ClassVar = 1.2


@dataclass(frozen=True)
class EfficientNetB3(EfficientNet):
    """EfficientNet-B3: 10.7 million parameters in the body, trained at 288 pixels."""

    cuts: tuple[str, ...] = ("block8",)
    """Blocks (block0 … block25, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/efficientnet_b3.ra2_in1k"
    features: ClassVar = 1536
    size: ClassVar = 288
    width: ClassVar = 1.2
    depth: ClassVar = 1.4


@dataclass(frozen=True)
class TfEfficientNetB0(EfficientNetB0):
    """EfficientNet-B0 with TensorFlow's padding and epsilon, trained by Google with noisy students at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnet_b0.ns_jft_in1k"
    eps: ClassVar = 1e-3
    same: ClassVar = True


@dataclass(frozen=True)
class TfEfficientNetB1(EfficientNetB1):
    """EfficientNet-B1 with TensorFlow's padding and epsilon, trained by Google with noisy students at 240 pixels."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnet_b1.ns_jft_in1k"
    size: ClassVar = 240
    eps: ClassVar = 1e-3
    same: ClassVar = True


@dataclass(frozen=True)
class TfEfficientNetB2(EfficientNetB2):
    """EfficientNet-B2 with TensorFlow's padding and epsilon, trained by Google with noisy students at 260 pixels."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnet_b2.ns_jft_in1k"
    size: ClassVar = 260
    eps: ClassVar = 1e-3
    same: ClassVar = True


@dataclass(frozen=True)
class TfEfficientNetB3(EfficientNetB3):
    """EfficientNet-B3 with TensorFlow's padding and epsilon, trained by Google with noisy students at 300 pixels."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnet_b3.ns_jft_in1k"
    size: ClassVar = 300
    eps: ClassVar = 1e-3
    same: ClassVar = True
