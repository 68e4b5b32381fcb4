"""VGG-11, -13, -16 and -19 with batch normalisation.

The body consists of the convolutions. The three wide layers that follow them in the paper, with over 80% of all parameters, are the
reference head: part of the ImageNet classifier, and replaced by the concat-pool head for other classes, as every classifier is.
Source: Simonyan & Zisserman 2014, configurations A, B, D, E.

Example:
    >>> VGG16BN().blocks[:3]
    ('layer1.block0', 'layer1.block1', 'layer2.block0')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..core.validation import require
from .base import KERNEL, NORM, ChainModel, Tensors

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-5
CHANNELS = (64, 128, 256, 512, 512)  # of the five layers; each ends with a pool that halves the image


@dataclass(frozen=True)
class VGG(ChainModel):
    """Base class of the VGG networks: five layers of 3×3 convolutions, each with a bias, as the published weights have it.

    The reference head averages over a grid of 7×7 cells (the identity at 224 pixels) and has three linear layers.
    """

    cuts: tuple[str, ...] = ("layer4",)
    """Blocks (layer2 … layer5, or finer, as layer3.block1) at which a new layer group begins; fastai's cut for VGG-16."""

    classifier: ClassVar = ("head.fc", "classifier.6")
    features: ClassVar = 512
    smallest: ClassVar = 32
    depths: ClassVar[tuple[int, int, int, int, int]]  # convolutions in each layer
    wide: ClassVar[tuple[int, int]] = (4096, 4096)  # of the reference head

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(f"layer{layer}.block{i}" for layer, depth in enumerate(self.depths, 1) for i in range(depth))

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from jax.nn import relu

        from .blocks import BatchNorm, Conv, MaxPool, Sequential

        modules: dict[str, nnx.Module] = {}
        for layer, (depth, outputs) in enumerate(zip(self.depths, CHANNELS, strict=True), 1):
            for i in range(depth):
                row = {"conv": Conv(3, channels, outputs, padding=1, bias=True), "bn": BatchNorm(outputs, EPS, activation=relu)}
                pool = {"pool": MaxPool(2, 0)} if i == depth - 1 else {}
                modules[f"layer{layer}.block{i}"], channels = Sequential(row | pool), outputs
        return modules

    def timm_options(self, size: int) -> dict[str, int | bool]:
        """Return what timm needs for a size; see ChainModel.timm_options. Its classifier averages what ours pools, from 8×8 cells on."""
        alike = self.head == "new" or size < 256
        require(alike, "size", size, "timm's classifier computes something else from 256 pixels on; export to stablehlo or onnx")
        return {}

    def reference_head(self, classes: int) -> tuple[nnx.Module, nnx.Module]:
        from .head import GridPool, WideHead

        return GridPool(7), WideHead(7, self.features, self.wide, classes)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in torchvision and timm; see ChainModel.tensors.

        timm stores the wide layers as convolutions, as here; torchvision stores matrices, so only the body of its files can be loaded.
        """
        position = 0
        for layer, depth in enumerate(self.depths, 1):
            for i in range(depth):
                block = f"layer{layer}.block{i}"
                yield from ((f"features.{position}", (block, "conv"), KERNEL), (f"features.{position + 1}", (block, "bn"), NORM))
                position += 3  # convolution, normalisation, ReLU
            position += 1
        for first, second in (("pre_logits.fc1", "pre_logits.fc2"), ("classifier.0", "classifier.3")):
            yield from ((first, ("head", "wide1"), KERNEL), (second, ("head", "wide2"), KERNEL))


@dataclass(frozen=True)
class VGG11BN(VGG):
    """VGG-11 with batch normalisation: 9.2 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/vgg11_bn.tv_in1k"
    depths: ClassVar = (1, 1, 2, 2, 2)


@dataclass(frozen=True)
class VGG13BN(VGG):
    """VGG-13 with batch normalisation: 9.4 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/vgg13_bn.tv_in1k"
    depths: ClassVar = (2, 2, 2, 2, 2)


@dataclass(frozen=True)
class VGG16BN(VGG):
    """VGG-16 with batch normalisation: 14.7 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/vgg16_bn.tv_in1k"
    depths: ClassVar = (2, 2, 3, 3, 3)


@dataclass(frozen=True)
class VGG19BN(VGG):
    """VGG-19 with batch normalisation: 20.0 million parameters in the body, 512 features."""

    imagenet: ClassVar = "hf-hub:timm/vgg19_bn.tv_in1k"
    depths: ClassVar = (2, 2, 4, 4, 4)
