"""ResNets and their variants: ResNeXt (grouped convolutions), Wide ResNet (wider ones) and ResNet-D (a better stem and shortcut).

The stride of a bottleneck is in its 3×3 convolution, as in torchvision and timm.
Source: He et al. 2015; Xie et al. 2016 (ResNeXt); Zagoruyko & Komodakis 2016 (wide); He et al. 2018 (D).

Example:
    >>> ResNet18().split()["late"]
    ('layer3.block0', 'layer3.block1', 'layer4.block0', 'layer4.block1')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import ChainModel, Tensors, conv_bn

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-5


@dataclass(frozen=True)
class ResNet(ChainModel):
    """Base class of the ResNets: a stem and four layers of residual blocks."""

    cuts: tuple[str, ...] = ("layer3",)
    """Blocks (layer1 … layer4, or finer, as layer3.block4) at which a new layer group begins; fastai's groups are stem to layer2,
    layer3 and layer4, head."""

    classifier: ClassVar = ("fc",)
    depths: ClassVar[tuple[int, int, int, int]]  # residual blocks in each layer
    bottleneck: ClassVar[bool] = False  # whether a block has 1×1, 3×3 and 1×1 convolutions, the last four times as wide, instead of two 3×3
    cardinality: ClassVar[int] = 1  # groups of the 3×3 convolution in a bottleneck
    width: ClassVar[int] = 64  # channels of each such group in layer1
    deep: ClassVar[bool] = False  # ResNet-D: a stem of three 3×3 convolutions, and shortcuts that average before their convolution

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", *(f"layer{layer}.block{i}" for layer, depth in enumerate(self.depths, 1) for i in range(depth)))

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        modules, inputs = {"stem": self._stem(channels)}, 64
        for layer, depth in enumerate(self.depths, 1):
            outputs = self.features // 2 ** (4 - layer)
            for i in range(depth):
                modules[f"layer{layer}.block{i}"] = self._block(layer, inputs, outputs, 2 if layer > 1 and i == 0 else 1)
                inputs = outputs
        return modules

    def _stem(self, channels: int) -> nnx.Module:
        from jax.nn import relu

        from .blocks import ConvBN, MaxPool, Sequential

        if self.deep:
            row = {
                "conv1": ConvBN(3, channels, 32, eps=EPS, stride=2, padding=1, activation=relu),
                "conv2": ConvBN(3, 32, 32, eps=EPS, padding=1, activation=relu),
                "conv3": ConvBN(3, 32, 64, eps=EPS, padding=1, activation=relu),
            }
        else:
            row = {"conv1": ConvBN(7, channels, 64, eps=EPS, stride=2, padding=3, activation=relu)}
        return Sequential(row | {"pool": MaxPool()})

    def _block(self, layer: int, inputs: int, outputs: int, stride: int) -> nnx.Module:
        from jax.nn import relu

        from .blocks import ConvBN, MeanPool, Residual, Sequential

        if self.bottleneck:
            wide = self.width * self.cardinality * 2 ** (layer - 1)
            row = {
                "conv1": ConvBN(1, inputs, wide, eps=EPS, activation=relu),
                "conv2": ConvBN(3, wide, wide, eps=EPS, stride=stride, padding=1, groups=self.cardinality, activation=relu),
                "conv3": ConvBN(1, wide, outputs, eps=EPS),
            }
        else:
            row = {
                "conv1": ConvBN(3, inputs, outputs, eps=EPS, stride=stride, padding=1, activation=relu),
                "conv2": ConvBN(3, outputs, outputs, eps=EPS, padding=1),
            }
        if stride == 1 and inputs == outputs:
            return Residual(row, activation=relu)
        pool = {"pool": MeanPool(partial=True)} if self.deep and stride == 2 else {}
        conv = ConvBN(1, inputs, outputs, eps=EPS, stride=1 if pool else stride)
        return Residual(row, Sequential(pool | {"conv": conv}), relu)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in torchvision and timm; see ChainModel.tensors."""
        stem = (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")) if self.deep else (("conv1", "bn1"),)
        for number, (conv, bn) in enumerate(stem, 1):
            yield from conv_bn(conv, bn, ("stem", f"conv{number}"))
        conv, bn = ("1", "2") if self.deep else ("0", "1")
        for layer, depth in enumerate(self.depths, 1):
            for i in range(depth):
                theirs, ours = f"layer{layer}.{i}", f"layer{layer}.block{i}"
                for n in (1, 2, 3) if self.bottleneck else (1, 2):
                    yield from conv_bn(f"{theirs}.conv{n}", f"{theirs}.bn{n}", (ours, f"conv{n}"))
                if i == 0 and (layer > 1 or self.bottleneck):
                    yield from conv_bn(f"{theirs}.downsample.{conv}", f"{theirs}.downsample.{bn}", (ours, "down", "conv"))


@dataclass(frozen=True)
class ResNet18(ResNet):
    """ResNet-18: 11.2 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet18.a1_in1k"
    features: ClassVar = 512
    depths: ClassVar = (2, 2, 2, 2)


@dataclass(frozen=True)
class ResNet34(ResNet):
    """ResNet-34: 21.3 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet34.a1_in1k"
    features: ClassVar = 512
    depths: ClassVar = (3, 4, 6, 3)


@dataclass(frozen=True)
class ResNet50(ResNet):
    """ResNet-50: 23.5 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet50.a1_in1k"
    features: ClassVar = 2048
    depths: ClassVar = (3, 4, 6, 3)
    bottleneck: ClassVar = True


@dataclass(frozen=True)
class ResNet101(ResNet50):
    """ResNet-101: 42.5 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet101.a1_in1k"
    depths: ClassVar = (3, 4, 23, 3)


@dataclass(frozen=True)
class ResNet152(ResNet50):
    """ResNet-152: 58.1 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet152.a1_in1k"
    depths: ClassVar = (3, 8, 36, 3)


@dataclass(frozen=True)
class ResNeXt50_32x4d(ResNet50):
    """ResNeXt-50 32x4d: 23.0 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnext50_32x4d.a1h_in1k"
    cardinality: ClassVar = 32
    width: ClassVar = 4


@dataclass(frozen=True)
class ResNeXt101_32x8d(ResNet101):
    """ResNeXt-101 32x8d: 86.7 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnext101_32x8d.tv2_in1k"
    size: ClassVar = 176
    cardinality: ClassVar = 32
    width: ClassVar = 8


@dataclass(frozen=True)
class ResNeXt101_64x4d(ResNet101):
    """ResNeXt-101 64x4d: 81.4 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnext101_64x4d.c1_in1k"
    cardinality: ClassVar = 64
    width: ClassVar = 4


@dataclass(frozen=True)
class WideResNet50_2(ResNet50):
    """Wide ResNet-50-2: 66.8 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/wide_resnet50_2.racm_in1k"
    width: ClassVar = 128


@dataclass(frozen=True)
class WideResNet101_2(ResNet101):
    """Wide ResNet-101-2: 124.8 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/wide_resnet101_2.tv2_in1k"
    size: ClassVar = 176
    width: ClassVar = 128


@dataclass(frozen=True)
class ResNet18D(ResNet18):
    """ResNet-18-D: 11.2 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet18d.ra2_in1k"
    deep: ClassVar = True


@dataclass(frozen=True)
class ResNet34D(ResNet34):
    """ResNet-34-D: 21.3 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet34d.ra2_in1k"
    deep: ClassVar = True


@dataclass(frozen=True)
class ResNet50D(ResNet50):
    """ResNet-50-D: 23.5 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet50d.ra2_in1k"
    deep: ClassVar = True


@dataclass(frozen=True)
class ResNet101D(ResNet101):
    """ResNet-101-D: 42.5 million parameters in the body, 2048 features."""

    imagenet: ClassVar = "hf-hub:timm/resnet101d.ra2_in1k"
    size: ClassVar = 256
    deep: ClassVar = True
