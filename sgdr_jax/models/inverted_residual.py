"""The common part of MobileNets and EfficientNets: a stem, a sequence of inverted residual blocks, and a last 1×1 convolution.

Source: Sandler et al. 2018 for the block, Howard et al. 2019 for squeeze-and-excitation in it, Tan & Le 2021 for the fused block, and Qin
et al. 2024 for the universal one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from .base import KERNEL, ChainModel, Tensors, conv_bn

if TYPE_CHECKING:
    from flax import nnx


class Block(NamedTuple):
    """One inverted residual block.

    Expansion to `wide` channels by a 1×1 convolution (none where `wide` equals `inputs`), depthwise convolution, squeeze-and-excitation
    (none if `squeeze` is 0), projection by a 1×1 convolution; plus the input where shapes allow it.

    Attributes:
        stage, repeat: position, from 0.
        kernel, stride: of the depthwise convolution. In a universal block without one, `kernel` is 0 and `start` has the stride.
        inputs, wide, outputs, squeeze: channels.
        activation: after expansion and depthwise convolution, a name in jax.nn.
        kind: "fused" has one dense convolution in place of expansion and depthwise convolution, "plain" in place of the whole block;
            "universal" begins with another depthwise convolution, without activation.
        start: kernel of that convolution; 0 for none.
        skip: whether the input is added where shapes allow it.
    """

    stage: int
    repeat: int
    kernel: int
    stride: int
    inputs: int
    wide: int
    outputs: int
    squeeze: int
    activation: str
    kind: Literal["inverted", "fused", "plain", "universal"] = "inverted"
    start: int = 0
    skip: bool = True

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the block's parts, in order."""
        if self.kind == "plain":
            return ("conv",)
        inner = ("fused",) if self.kind == "fused" else ("expand",) * (self.wide != self.inputs) + ("depthwise",) * bool(self.kernel)
        return ("start",) * bool(self.start) + inner + ("squeeze",) * bool(self.squeeze) + ("project",)


def rounded(channels: float) -> int:
    """Round to the nearest multiple of 8 that is not more than 10% below. Source: reference code of Sandler et al. 2018, Tan & Le 2019.

    >>> rounded(17.6), rounded(11)
    (16, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


@dataclass(frozen=True)
class InvertedResiduals(ChainModel):
    """A network of inverted residual blocks, which a subclass lists in `table`."""

    classifier: ClassVar = ("classifier", "classifier.1")  # timm, torchvision
    features: ClassVar = 1280
    eps: ClassVar[float] = 1e-5
    same: ClassVar[bool] = False  # whether to pad as TensorFlow's "SAME" instead of by kernel // 2 on every side; they differ at stride 2
    activation: ClassVar[str]  # of stem and top, a name in jax.nn
    excitation: ClassVar[tuple[str, str]] = ("silu", "sigmoid")  # activation and gate of squeeze-and-excitation

    def table(self) -> tuple[Block, ...]:
        """List the blocks between stem and top."""
        raise NotImplementedError

    @property
    def top(self) -> int:
        """Channels of the last convolution."""
        return self.features

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", *(f"block{i}" for i in range(len(self.table()))), "top")

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from jax import nn

        from . import layers
        from .blocks import ConvBN, Residual, Sequential, SqueezeExcite

        def activation_of(name: str) -> layers.Activation:
            return getattr(layers, name, None) or getattr(nn, name)

        def conv(size: int, inputs: int, outputs: int, activation: str = "", stride: int = 1, groups: int = 1) -> ConvBN:
            padding, act = "SAME" if self.same else size // 2, activation_of(activation) if activation else None
            return ConvBN(size, inputs, outputs, eps=self.eps, stride=stride, padding=padding, groups=groups, activation=act)

        def block(row: Block) -> Sequential:
            make: dict[str, Callable[[], nnx.Module]] = {
                "conv": lambda: conv(row.kernel, row.inputs, row.outputs, row.activation, row.stride),
                "fused": lambda: conv(row.kernel, row.inputs, row.wide, row.activation, row.stride),
                "start": lambda: conv(row.start, row.inputs, row.inputs, "", 1 if row.kernel else row.stride, row.inputs),
                "expand": lambda: conv(1, row.inputs, row.wide, row.activation),
                "depthwise": lambda: conv(row.kernel, row.wide, row.wide, row.activation, row.stride, row.wide),
                "squeeze": lambda: SqueezeExcite(row.wide, row.squeeze, *(activation_of(name) for name in self.excitation)),
                "project": lambda: conv(1, row.wide, row.outputs),
            }
            units = {name: make[name]() for name in row.units}
            return Residual(units) if row.skip and row.stride == 1 and row.inputs == row.outputs else Sequential(units)

        table = self.table()
        modules: dict[str, nnx.Module] = {"stem": conv(3, channels, table[0].inputs, self.activation, 2)}
        modules |= {f"block{i}": block(row) for i, row in enumerate(table)}
        return modules | {"top": conv(1, table[-1].outputs, self.top, self.activation)}

    def timm_tensors(self, top: tuple[str, str] = ("conv_head", "bn2")) -> Iterator[Tensors]:
        """Yield the names in timm, `top` being those of the last convolution and its normalisation; see ChainModel.tensors."""
        yield from (*conv_bn("conv_stem", "bn1", ("stem",)), *conv_bn(*top, ("top",)))
        for index, row in enumerate(self.table()):
            place, number = f"blocks.{row.stage}.{row.repeat}", 0
            names = {"conv": "conv", "fused": "conv_exp", "expand": "conv_pw", "depthwise": "conv_dw"}
            # Without expansion the projection is called conv_pw.
            names["project"] = "conv_pwl" if {"expand", "fused"} & set(row.units) else "conv_pw"
            universal = {"start": "dw_start", "expand": "pw_exp", "depthwise": "dw_mid", "project": "pw_proj"}
            for unit in row.units:
                path = (f"block{index}", unit)
                if unit == "squeeze":
                    yield f"{place}.se.conv_reduce", (*path, "reduce"), KERNEL
                    yield f"{place}.se.conv_expand", (*path, "expand"), KERNEL
                elif row.kind == "universal":
                    yield from conv_bn(f"{place}.{universal[unit]}.conv", f"{place}.{universal[unit]}.bn", path)
                else:
                    number += 1
                    yield from conv_bn(f"{place}.{names[unit]}", f"{place}.bn{number}", path)

    def torchvision_tensors(self, place: Callable[[int, Block], str], top: int) -> Iterator[Tensors]:
        """Yield the names in torchvision: `place` returns the name of a block, `top` is the number of the last convolution."""
        yield from (*conv_bn("features.0.0", "features.0.1", ("stem",)), *conv_bn(f"features.{top}.0", f"features.{top}.1", ("top",)))
        for index, row in enumerate(self.table()):
            for number, unit in enumerate(row.units):
                theirs, path = f"{place(index, row)}.{number}", (f"block{index}", unit)
                if unit == "squeeze":
                    yield f"{theirs}.fc1", (*path, "reduce"), KERNEL
                    yield f"{theirs}.fc2", (*path, "expand"), KERNEL
                else:
                    yield from conv_bn(f"{theirs}.0", f"{theirs}.1", path)
