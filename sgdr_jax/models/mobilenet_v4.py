"""MobileNetV4, the convolutional sizes small and medium: universal inverted residual blocks. Source: Qin et al. 2024.

Example:
    >>> MobileNetV4Small().groups, MobileNetV4Small().blocks[-2:]
    (('early', 'late', 'head'), ('block15', 'top'))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import Tensors, conv_bn
from .inverted_residual import Block, InvertedResiduals

if TYPE_CHECKING:
    from flax import nnx


@dataclass(frozen=True)
class MobileNetV4(InvertedResiduals):
    """Base class of both sizes: ReLU, no squeeze-and-excitation, and a convolution with normalisation between pooling and classifier."""

    classifier: ClassVar = ("classifier",)
    activation: ClassVar = "relu"
    before: ClassVar[tuple[Block, ...]]  # blocks of the first two stages where these are not universal
    # Of each universal block: stage, kernels of its depthwise convolutions (0 for none), stride, expansion, output channels.
    rows: ClassVar[tuple[tuple[int, int, int, int, int, int], ...]]

    def table(self) -> tuple[Block, ...]:
        """List the blocks between stem and top.

        >>> [block.units for block in MobileNetV4Small().table()[4:6]]
        [('start', 'expand', 'depthwise', 'project'), ('expand', 'depthwise', 'project')]
        """
        table = list(self.before)
        for stage, start, kernel, stride, expand, outputs in self.rows:
            inputs, repeat = table[-1].outputs, sum(row.stage == stage for row in table)
            wide = inputs * expand
            table.append(Block(stage, repeat, kernel, stride, inputs, wide, outputs, 0, self.activation, "universal", start))
        return tuple(table)

    @property
    def top(self) -> int:
        """Channels of the last convolution."""
        return 960

    def after_pool(self) -> nnx.Module | None:
        """Return the convolution between pooling and the ImageNet classifier."""
        from jax.nn import relu

        from .blocks import ConvBN

        return ConvBN(1, self.top, self.features, eps=self.eps, activation=relu)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        stage = self.table()[-1].stage + 1
        yield from self.timm_tensors((f"blocks.{stage}.0.conv", f"blocks.{stage}.0.bn1"))
        yield from conv_bn("conv_head", "norm_head", ("pool", "then"))


@dataclass(frozen=True)
class MobileNetV4Small(MobileNetV4):
    """MobileNetV4-Conv-Small: 2.5 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block4",)
    """Blocks (block0 … block15, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/mobilenetv4_conv_small.e2400_r224_in1k"
    before: ClassVar = tuple(
        Block(stage, repeat, kernel, stride, inputs, outputs, outputs, 0, "relu", "plain", skip=False)
        for stage, repeat, kernel, stride, inputs, outputs in (
            (0, 0, 3, 2, 32, 32),
            (0, 1, 1, 1, 32, 32),
            (1, 0, 3, 2, 32, 96),
            (1, 1, 1, 1, 96, 64),
        )
    )
    rows: ClassVar = (
        (2, 5, 5, 2, 3, 96),
        (2, 0, 3, 1, 2, 96),
        (2, 0, 3, 1, 2, 96),
        (2, 0, 3, 1, 2, 96),
        (2, 0, 3, 1, 2, 96),
        (2, 3, 0, 1, 4, 96),
        (3, 3, 3, 2, 6, 128),
        (3, 5, 5, 1, 4, 128),
        (3, 0, 5, 1, 4, 128),
        (3, 0, 5, 1, 3, 128),
        (3, 0, 3, 1, 4, 128),
        (3, 0, 3, 1, 4, 128),
    )


@dataclass(frozen=True)
class MobileNetV4Medium(MobileNetV4):
    """MobileNetV4-Conv-Medium: 8.4 million parameters in the body, trained at 256 pixels."""

    cuts: tuple[str, ...] = ("block3",)
    """Blocks (block0 … block21, top) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/mobilenetv4_conv_medium.e500_r256_in1k"
    size: ClassVar = 256
    before: ClassVar = (Block(0, 0, 3, 2, 32, 128, 48, 0, "relu", "fused"),)
    rows: ClassVar = (
        (1, 3, 5, 2, 4, 80),
        (1, 3, 3, 1, 2, 80),
        (2, 3, 5, 2, 6, 160),
        (2, 3, 3, 1, 4, 160),
        (2, 3, 3, 1, 4, 160),
        (2, 3, 5, 1, 4, 160),
        (2, 3, 3, 1, 4, 160),
        (2, 3, 0, 1, 4, 160),
        (2, 0, 0, 1, 2, 160),
        (2, 3, 0, 1, 4, 160),
        (3, 5, 5, 2, 6, 256),
        (3, 5, 5, 1, 4, 256),
        (3, 3, 5, 1, 4, 256),
        (3, 3, 5, 1, 4, 256),
        (3, 0, 0, 1, 4, 256),
        (3, 3, 0, 1, 4, 256),
        (3, 3, 5, 1, 2, 256),
        (3, 5, 5, 1, 4, 256),
        (3, 0, 0, 1, 4, 256),
        (3, 0, 0, 1, 4, 256),
        (3, 5, 0, 1, 2, 256),
    )
