"""Swin Transformer V2: attention within windows, every second time across their edges, and normalisation behind each half of a block.

Position biases are made for windows of any size, so images of every size go: a window is 8 places wide, or as wide as the image.
Source: Liu et al. 2022, "Swin Transformer V2".

Example:
    >>> SwinV2Tiny().groups, SwinV2Tiny().blocks[:5]
    (('early', 'late', 'head'), ('patch', 'block0', 'block1', 'down1', 'block2'))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import BARE, KERNEL, ChainModel, Tensors, numbered

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-5
NORM = {"weight": "scale", "bias": "bias"}
OWN = {"logit_scale": "log_scale", "q_bias": "query_bias", "v_bias": "value_bias"}


@dataclass(frozen=True)
class SwinV2Tiny(ChainModel):
    """SwinV2-Tiny with windows of 8 places: 27.6 million parameters in the body, trained on ImageNet at 256 pixels."""

    cuts: tuple[str, ...] = ("down2",)
    """Blocks (block0 … block11, and down1 … down3 between the stages) at which a new layer group begins."""

    imagenet: ClassVar = "hf-hub:timm/swinv2_tiny_window8_256.ms_in1k"
    classifier: ClassVar = ("head.fc",)
    # Constants of one image size, which older versions of timm saved. Source: `checkpoint_filter_fn` of timm 1.0.31.
    buffers: ClassVar = (*ChainModel.buffers, "attn_mask", "relative_position_index", "relative_coords_table")
    features: ClassVar = 768
    size: ClassVar = 256
    depths: ClassVar[tuple[int, ...]] = (2, 2, 6, 2)
    width: ClassVar[int] = 96  # features of the first stage; each later one has twice as many
    head_features: ClassVar[int] = 32  # of one head of attention
    window: ClassVar[int] = 8

    @property
    def blocks(self) -> tuple[str, ...]:
        return (*(name for i, names in enumerate(numbered(self.depths)) for name in (f"down{i}" if i else "patch", *names)), "norm")

    def timm_options(self, size: int) -> dict[str, int | bool]:
        """Return what timm needs for a size; see ChainModel.timm_options. Its windows are cut when the network is made."""
        return {"img_size": size}

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from .blocks import Conv, LayerNorm, PixelLinear, Residual, Sequential
        from .layers import gelu
        from .window_attention import PatchMerging, WindowAttention

        def block(c: int, shifted: bool) -> Sequential:
            attention = WindowAttention(c, c // self.head_features, self.window, shifted=shifted)
            mlp = {"expand": PixelLinear(c, 4 * c, activation=gelu), "project": PixelLinear(4 * c, c)}
            return Sequential(
                {
                    "mixer": Residual({"attention": attention, "norm": LayerNorm(c, EPS)}),
                    "mlp": Residual({**mlp, "norm": LayerNorm(c, EPS)}),
                }
            )

        modules: dict[str, nnx.Module] = {}
        for i, names in enumerate(numbered(self.depths)):
            c = self.width * 2**i
            if i:
                modules[f"down{i}"] = PatchMerging(c // 2, EPS)
            else:
                modules["patch"] = Sequential({"conv": Conv(4, channels, c, stride=4, bias=True), "norm": LayerNorm(c, EPS)})
            modules |= {name: block(c, n % 2 == 1) for n, name in enumerate(names)}
        return modules | {"norm": LayerNorm(self.features, EPS)}

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        yield from (
            ("patch_embed.proj", ("patch", "conv"), KERNEL),
            ("patch_embed.norm", ("patch", "norm"), NORM),
            ("norm", ("norm",), NORM),
        )
        for stage, names in enumerate(numbered(self.depths)):
            if stage:
                place, down = f"layers.{stage}.downsample", f"down{stage}"
                yield from ((f"{place}.reduction", (down, "reduce"), BARE), (f"{place}.norm", (down, "norm"), NORM))
            for i, name in enumerate(names):
                place, attention = f"layers.{stage}.blocks.{i}", (name, "mixer", "attention")
                yield f"{place}.attn", attention, OWN
                yield f"{place}.attn.qkv", (*attention, "qkv"), BARE
                yield f"{place}.attn.cpb_mlp.0", (*attention, "positions", "hidden"), KERNEL
                yield f"{place}.attn.cpb_mlp.2", (*attention, "positions", "bias"), BARE
                yield f"{place}.attn.proj", (*attention, "project"), KERNEL
                yield f"{place}.norm1", (name, "mixer", "norm"), NORM
                yield f"{place}.mlp.fc1", (name, "mlp", "expand"), KERNEL
                yield f"{place}.mlp.fc2", (name, "mlp", "project"), KERNEL
                yield f"{place}.norm2", (name, "mlp", "norm"), NORM
