"""CAFormer-S18: stages of separable convolutions, then stages of attention, with StarReLU. Source: Yu et al. 2024 ("MetaFormer Baselines").

The classifier of the ImageNet network has a hidden layer; it belongs to the body, with the normalisations around it.

Example:
    >>> CAFormerS18().groups, CAFormerS18().blocks[:5]
    (('early', 'late', 'head'), ('stem', 'block0', 'block1', 'block2', 'down1'))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import BARE, KERNEL, ChainModel, Tensors, numbered

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-6
NORM = {"weight": "scale"}
NORM_BIAS = {"weight": "scale", "bias": "bias"}
STAR = {"scale": "scale", "bias": "bias"}
# timm's names of the units of the two halves of a block, ours, and their leaves.
CONVOLUTION = (("pwconv1", "expand", BARE), ("act1", "activate", STAR), ("dwconv", "depthwise", BARE), ("pwconv2", "project", BARE))
ATTENTION = (("qkv", "qkv", BARE), ("proj", "project", BARE))
MLP = (("fc1", "expand", BARE), ("act", "activate", STAR), ("fc2", "project", BARE))


@dataclass(frozen=True)
class CAFormerS18(ChainModel):
    """CAFormer-S18: 24.3 million parameters in the body, trained on ImageNet-22k, then ImageNet, at 224 pixels."""

    cuts: tuple[str, ...] = ("down2",)
    """Blocks (block0 … block17, and down1 … down3 between the stages) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/caformer_s18.sail_in22k_ft_in1k"
    classifier: ClassVar = ("head.fc.fc2",)
    features: ClassVar = 2048
    depths: ClassVar[tuple[int, ...]] = (3, 3, 9, 3)
    widths: ClassVar[tuple[int, ...]] = (64, 128, 320, 512)
    convolutional: ClassVar[int] = 2  # stages that mix pixels by convolution; the others do by attention
    head_features: ClassVar[int] = 32  # of one head of attention

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(name for i, names in enumerate(numbered(self.depths)) for name in (f"down{i}" if i else "stem", *names))

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from functools import partial

        from .attention import ImageAttention
        from .blocks import ChannelScale, Conv, LayerNorm, PixelLinear, Residual, Sequential, StarReLU

        norm = partial(LayerNorm, eps=EPS, bias=False)

        def convolution(c: int) -> dict[str, nnx.Module]:
            depthwise = Conv(7, 2 * c, 2 * c, padding=3, groups=2 * c)
            return {"expand": Conv(1, c, 2 * c), "activate": StarReLU(), "depthwise": depthwise, "project": Conv(1, 2 * c, c)}

        def block(c: int, attends: bool) -> Sequential:
            attention = {"attention": ImageAttention(c, c // self.head_features, bias=False, project_bias=False)}
            linear = partial(PixelLinear, bias=False) if attends else partial(Conv, 1)  # weight files store either
            mlp = {"expand": linear(c, 4 * c), "activate": StarReLU(), "project": linear(4 * c, c)}
            halves = {"mixer": attention if attends else convolution(c), "mlp": mlp}
            return Sequential(
                {name: Residual({"norm": norm(c), **units}, ChannelScale(c) if attends else None) for name, units in halves.items()}
            )

        modules: dict[str, nnx.Module] = {}
        for i, (names, c) in enumerate(zip(numbered(self.depths), self.widths, strict=True)):
            if i:
                before = self.widths[i - 1]
                modules[f"down{i}"] = Sequential({"norm": norm(before), "conv": Conv(3, before, c, stride=2, padding=1, bias=True)})
            else:
                modules["stem"] = Sequential({"conv": Conv(7, channels, c, stride=4, padding=2, bias=True), "norm": norm(c)})
            modules |= {name: block(c, i >= self.convolutional) for name in names}
        return modules

    def after_pool(self) -> nnx.Module | None:
        """Return the hidden layer of the ImageNet classifier, between two layer normalisations."""
        from jax.nn import relu

        from .blocks import LayerNorm, PixelLinear, Sequential

        width = self.widths[-1]
        return Sequential(
            {
                "before": LayerNorm(width, EPS),
                "hidden": PixelLinear(width, self.features, activation=lambda x: relu(x) ** 2),
                "after": LayerNorm(self.features, EPS),
            }
        )

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        yield from (("stem.conv", ("stem", "conv"), KERNEL), ("stem.norm", ("stem", "norm"), NORM))
        for theirs, ours, leaves in (("norm", "before", NORM_BIAS), ("fc.fc1", "hidden", KERNEL), ("fc.norm", "after", NORM_BIAS)):
            yield f"head.{theirs}", ("pool", "then", ours), leaves
        for stage, names in enumerate(numbered(self.depths)):
            if stage:
                place, down = f"stages.{stage}.downsample", f"down{stage}"
                yield from ((f"{place}.norm", (down, "norm"), NORM), (f"{place}.conv", (down, "conv"), KERNEL))
            attends = stage >= self.convolutional
            for i, name in enumerate(names):
                place = f"stages.{stage}.blocks.{i}"
                for number, half in ((1, "mixer"), (2, "mlp")):
                    yield f"{place}.norm{number}", (name, half, "norm"), NORM
                    if attends:
                        yield f"{place}.res_scale{number}", (name, half, "down"), {"scale": "scale"}
                mixer = (name, "mixer", "attention") if attends else (name, "mixer")
                for theirs, ours, leaves in ATTENTION if attends else CONVOLUTION:
                    yield f"{place}.token_mixer.{theirs}", (*mixer, ours), leaves
                for theirs, ours, leaves in MLP:
                    yield f"{place}.mlp.{theirs}", (name, "mlp", ours), leaves
