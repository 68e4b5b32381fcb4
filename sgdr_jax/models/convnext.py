"""ConvNeXt and ConvNeXt V2: 7×7 depthwise convolutions, layer normalisation, GELU.

The pooled features are layer-normalised before they leave the body, as in front of the ImageNet classifier.
Source: Liu et al. 2022; Woo et al. 2023 (V2).

Example:
    >>> ConvNeXtTiny().groups
    ('early', 'late', 'head')
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import KERNEL, ChainModel, Tensors, numbered

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-6
NORM = {"weight": "scale", "bias": "bias"}


@dataclass(frozen=True)
class ConvNeXt(ChainModel):
    """Base class of the ConvNeXts: a stem, and four stages of blocks with a convolution of stride 2 between them."""

    cuts: tuple[str, ...] = ("down2",)
    """Blocks (block0, …, and down1 … down3 between the stages) at which a new layer group begins."""

    classifier: ClassVar = ("head.fc", "classifier.2")  # timm, torchvision
    smallest: ClassVar = 32
    depths: ClassVar[tuple[int, int, int, int]]  # blocks in each stage
    width: ClassVar[int]  # channels of the first stage; each later one has twice as many
    linear: ClassVar[bool] = True  # whether weight files store the 1×1 convolutions as linear layers
    v2: ClassVar[bool] = False  # global response normalisation instead of layer scale

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(name for i, names in enumerate(numbered(self.depths)) for name in (f"down{i}" if i else "stem", *names))

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from functools import partial

        from .blocks import Conv, LayerNorm, LayerScale, PixelLinear, Residual, ResponseNorm, Sequential
        from .layers import gelu

        conv = partial(Conv, bias=True)
        pointwise: Callable[..., nnx.Module] = PixelLinear if self.linear else partial(conv, 1)

        def block(c: int) -> Residual:
            row: dict[str, nnx.Module] = {
                "depthwise": conv(7, c, c, padding=3, groups=c),
                "norm": LayerNorm(c, EPS),
                "expand": pointwise(c, 4 * c, activation=gelu),
            }
            row |= {"response": ResponseNorm(4 * c, EPS)} if self.v2 else {}
            row |= {"project": pointwise(4 * c, c)}
            return Residual(row if self.v2 else row | {"scale": LayerScale(c)})

        modules: dict[str, nnx.Module] = {}
        for i, names in enumerate(numbered(self.depths)):
            c = self.width * 2**i
            if i:
                modules[f"down{i}"] = Sequential({"norm": LayerNorm(c // 2, EPS), "conv": conv(2, c // 2, c, stride=2)})
            else:
                modules["stem"] = Sequential({"conv": conv(4, channels, c, stride=4), "norm": LayerNorm(c, EPS)})
            modules |= {name: block(c) for name in names}
        return modules

    def after_pool(self) -> nnx.Module | None:
        """Return the layer normalisation between pooling and the ImageNet classifier."""
        from .blocks import LayerNorm

        return LayerNorm(self.features, EPS)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm, and those of ConvNeXt in torchvision; see ChainModel.tensors."""
        yield from (("stem.0", ("stem", "conv"), KERNEL), ("stem.1", ("stem", "norm"), NORM), ("head.norm", ("pool", "then"), NORM))
        yield from (("features.0.0", ("stem", "conv"), KERNEL), ("features.0.1", ("stem", "norm"), NORM))
        yield ("classifier.0", ("pool", "then"), NORM)
        for stage, names in enumerate(numbered(self.depths)):
            if stage:
                for place in (f"stages.{stage}.downsample", f"features.{2 * stage}"):
                    yield from ((f"{place}.0", (f"down{stage}", "norm"), NORM), (f"{place}.1", (f"down{stage}", "conv"), KERNEL))
            for i, name in enumerate(names):
                timm, torchvision = f"stages.{stage}.blocks.{i}", f"features.{2 * stage + 1}.{i}"
                yield timm, (name, "scale"), {"gamma": "gamma"}
                yield torchvision, (name, "scale"), {"layer_scale": "gamma"}
                yield f"{timm}.mlp.grn", (name, "response"), {"weight": "gain", "bias": "bias"}
                for theirs, number, unit in (
                    ("conv_dw", 0, "depthwise"),
                    ("norm", 2, "norm"),
                    ("mlp.fc1", 3, "expand"),
                    ("mlp.fc2", 5, "project"),
                ):
                    leaves = NORM if unit == "norm" else KERNEL
                    yield from ((f"{timm}.{theirs}", (name, unit), leaves), (f"{torchvision}.block.{number}", (name, unit), leaves))


@dataclass(frozen=True)
class ConvNeXtAtto(ConvNeXt):
    """ConvNeXt-Atto: 3.4 million parameters in the body, trained by timm's author at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_atto.d2_in1k"
    features: ClassVar = 320
    depths: ClassVar = (2, 2, 6, 2)
    width: ClassVar = 40
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtFemto(ConvNeXt):
    """ConvNeXt-Femto: 4.8 million parameters in the body, trained by timm's author at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_femto.d1_in1k"
    features: ClassVar = 384
    depths: ClassVar = (2, 2, 6, 2)
    width: ClassVar = 48
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtPico(ConvNeXt):
    """ConvNeXt-Pico: 8.5 million parameters in the body, trained by timm's author at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_pico.d1_in1k"
    features: ClassVar = 512
    depths: ClassVar = (2, 2, 6, 2)
    width: ClassVar = 64
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtNano(ConvNeXt):
    """ConvNeXt-Nano: 15.0 million parameters in the body, trained by timm's author on ImageNet-12k, then ImageNet, at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_nano.in12k_ft_in1k"
    features: ClassVar = 640
    depths: ClassVar = (2, 2, 8, 2)
    width: ClassVar = 80
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtTiny(ConvNeXt):
    """ConvNeXt-Tiny: 27.8 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_tiny.fb_in1k"
    features: ClassVar = 768
    depths: ClassVar = (3, 3, 9, 3)
    width: ClassVar = 96


@dataclass(frozen=True)
class ConvNeXtSmall(ConvNeXt):
    """ConvNeXt-Small: 49.5 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_small.fb_in1k"
    features: ClassVar = 768
    depths: ClassVar = (3, 3, 27, 3)
    width: ClassVar = 96


@dataclass(frozen=True)
class ConvNeXtBase(ConvNeXt):
    """ConvNeXt-Base: 87.6 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_base.fb_in1k"
    features: ClassVar = 1024
    depths: ClassVar = (3, 3, 27, 3)
    width: ClassVar = 128


@dataclass(frozen=True)
class ConvNeXtLarge(ConvNeXt):
    """ConvNeXt-Large: 196.2 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnext_large.fb_in1k"
    features: ClassVar = 1536
    depths: ClassVar = (3, 3, 27, 3)
    width: ClassVar = 192


@dataclass(frozen=True)
class ConvNeXtV2(ConvNeXt):
    """Base class of version 2. The licence of the ImageNet weights excludes commercial use (CC-BY-NC-4.0)."""

    v2: ClassVar = True


@dataclass(frozen=True)
class ConvNeXtV2Atto(ConvNeXtV2):
    """ConvNeXtV2-Atto: 3.4 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnextv2_atto.fcmae_ft_in1k"
    features: ClassVar = 320
    depths: ClassVar = (2, 2, 6, 2)
    width: ClassVar = 40
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtV2Femto(ConvNeXtV2):
    """ConvNeXtV2-Femto: 4.8 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnextv2_femto.fcmae_ft_in1k"
    features: ClassVar = 384
    depths: ClassVar = (2, 2, 6, 2)
    width: ClassVar = 48
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtV2Pico(ConvNeXtV2):
    """ConvNeXtV2-Pico: 8.6 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnextv2_pico.fcmae_ft_in1k"
    features: ClassVar = 512
    depths: ClassVar = (2, 2, 6, 2)
    width: ClassVar = 64
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtV2Nano(ConvNeXtV2):
    """ConvNeXtV2-Nano: 15.0 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnextv2_nano.fcmae_ft_in1k"
    features: ClassVar = 640
    depths: ClassVar = (2, 2, 8, 2)
    width: ClassVar = 80
    linear: ClassVar = False


@dataclass(frozen=True)
class ConvNeXtV2Tiny(ConvNeXtV2):
    """ConvNeXtV2-Tiny: 27.9 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnextv2_tiny.fcmae_ft_in1k"
    features: ClassVar = 768
    depths: ClassVar = (3, 3, 9, 3)
    width: ClassVar = 96


@dataclass(frozen=True)
class ConvNeXtV2Base(ConvNeXtV2):
    """ConvNeXtV2-Base: 87.7 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/convnextv2_base.fcmae_ft_in1k"
    features: ClassVar = 1024
    depths: ClassVar = (3, 3, 27, 3)
    width: ClassVar = 128
