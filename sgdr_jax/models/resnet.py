"""ResNet-18, -34 and -50 (He et al. 2015; the stride of a bottleneck in its 3×3 convolution, as torchvision and timm have it)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import ChainModel, Tensors, conv_bn

EPS = 1e-5


@dataclass(frozen=True)
class ResNet(ChainModel):
    """What the ResNets share: a stem and four layers of residual blocks."""

    cuts: tuple[str, ...] = ("layer3",)
    """Blocks (layer1 … layer4) at which a new layer group begins; fastai's groups are stem to layer2, layer3 and layer4, head."""

    classifier: ClassVar = ("fc",)
    mean: ClassVar = (0.485, 0.456, 0.406)
    std: ClassVar = (0.229, 0.224, 0.225)
    depths: ClassVar[tuple[int, int, int, int]]  # residual blocks in each layer
    bottleneck: ClassVar[bool] = False

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the body's blocks from input to output."""
        return ("stem", "layer1", "layer2", "layer3", "layer4")

    def modules(self, channels: int) -> dict[str, Any]:
        """The body's blocks as NNX modules for images of this many channels."""
        from jax.nn import relu

        from .blocks import ConvBN, MaxPool, Residual, Sequential

        def block(inputs: int, width: int, outputs: int, stride: int) -> Residual:
            if self.bottleneck:
                row = {
                    "conv1": ConvBN(1, inputs, width, eps=EPS, activation=relu),
                    "conv2": ConvBN(3, width, width, eps=EPS, stride=stride, padding=1, activation=relu),
                    "conv3": ConvBN(1, width, outputs, eps=EPS),
                }
            else:
                row = {
                    "conv1": ConvBN(3, inputs, width, eps=EPS, stride=stride, padding=1, activation=relu),
                    "conv2": ConvBN(3, width, outputs, eps=EPS, padding=1),
                }
            same = stride == 1 and inputs == outputs
            return Residual(row, None if same else ConvBN(1, inputs, outputs, eps=EPS, stride=stride), relu)

        stem = ConvBN(7, channels, 64, eps=EPS, stride=2, padding=3, activation=relu)
        modules, inputs = {"stem": Sequential({"conv1": stem, "pool": MaxPool()})}, 64
        for index, depth in enumerate(self.depths):
            width = 64 * 2**index
            outputs = 4 * width if self.bottleneck else width
            stride = 1 if index == 0 else 2
            row = {f"block{i}": block(outputs if i else inputs, width, outputs, 1 if i else stride) for i in range(depth)}
            modules[f"layer{index + 1}"], inputs = Sequential(row), outputs
        return modules

    def tensors(self) -> Iterator[Tensors]:
        """Names in torchvision and timm; see ChainModel.tensors."""
        yield from conv_bn("conv1", "bn1", ("stem", "conv1"))
        for index, depth in enumerate(self.depths):
            layer = f"layer{index + 1}"
            for block in range(depth):
                for i in (1, 2, 3) if self.bottleneck else (1, 2):
                    yield from conv_bn(f"{layer}.{block}.conv{i}", f"{layer}.{block}.bn{i}", (layer, f"block{block}", f"conv{i}"))
                if block == 0 and (index or self.bottleneck):
                    yield from conv_bn(f"{layer}.0.downsample.0", f"{layer}.0.downsample.1", (layer, "block0", "down"))


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
