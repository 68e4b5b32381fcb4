"""Vision Transformers: ViT (AugReg), DeiT III, the image towers of CLIP and SigLIP, DINOv2 and DINOv3.

A chain of patch embedding, blocks and the last normalisation. Tokens [b, n, c] pass between the blocks: class token and registers, then
the patches row by row. Images of any size will do: learned position embeddings are resized to its grid, rotary ones are computed for it.
There is no batch normalisation in the body. The new head gets what the network's own classifier was given in training (class token, or
attention pooling where there is none) and the mean of the patches, as the linear probes of DINOv2.
Source: Dosovitskiy et al. 2020; names of the weights: timm.

Example:
    >>> ViTSmall16().groups, ViTSmall16(cuts=("block4", "block8")).groups
    (('early', 'late', 'head'), ('patch', 'block4', 'block8', 'head'))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..core.validation import require
from .base import BARE, KERNEL, ChainModel, Tensors

if TYPE_CHECKING:
    from flax import nnx

    from .chain import Maps
    from .head import LinearHead
    from .tokens import TokenPool

NORM = {"weight": "scale", "bias": "bias"}
HEAD = 64
"""Features of an attention head."""
QUICK_TAGS = ("openai", "metaclip_400m", "metaclip_2pt5b")
"""Tags of CLIP's weights that were trained with x · sigmoid(1.702 x). Source: `default_cfgs` of timm 1.0.31."""


@dataclass(frozen=True)
class ViT(ChainModel):
    """Base class of the Vision Transformers.

    A side that is no multiple of `patch` loses the pixels at the right and the bottom that fill no whole patch.
    """

    cuts: tuple[str, ...] = ("block6",)
    """Blocks (block0 …, norm) at which a new layer group begins; name them all for a rate that falls from block to block."""

    classifier: ClassVar = ("head",)
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.5, 0.5, 0.5)
    patch: ClassVar = 16
    smallest: ClassVar = 16
    depth: ClassVar[int] = 12  # blocks
    eps: ClassVar[float] = 1e-6  # of the layer normalisations
    activation: ClassVar[Literal["gelu", "quick_gelu", "swiglu"]] = "gelu"
    positions: ClassVar[Literal["tokens", "patches", "rotary"]] = "tokens"  # of all tokens, of the patches only, or in attention
    pooling: ClassVar = "token"  # the classifier is given the class token, "avg" (the mean of the patches) or "map" (attention)
    registers: ClassVar[int] = 0
    first_norm: ClassVar[bool] = False  # in front of the first block
    scaled: ClassVar[bool] = False  # whether blocks have layer scales
    qkv_bias: ClassVar[bool] = True

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("patch", *(f"block{i}" for i in range(self.depth)), "norm")

    @property
    def prefix(self) -> int:
        """Number of tokens before those of the patches."""
        return int(self.pooling != "map") + self.registers

    @property
    def maps(self) -> Maps:
        """Where class activation maps are taken: in front of the last block, behind which the patches do not reach the class token."""
        from .chain import Maps

        return Maps(self.blocks[-2], self.prefix)

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from .blocks import LayerNorm
        from .position_embedding import PositionEmbedding
        from .tokens import PatchEmbedding

        c, side = self.features, self.size // self.patch
        learned = self.positions != "rotary"
        modules: dict[str, nnx.Module] = {
            "patch": PatchEmbedding(
                self.patch,
                channels,
                c,
                classes=self.prefix - self.registers,
                registers=self.registers,
                positions=PositionEmbedding(c, (side, side), self.prefix if self.positions == "tokens" else 0) if learned else None,
                norm=LayerNorm(c, self.eps) if self.first_norm else None,
            )
        }
        modules |= {f"block{i}": self._block() for i in range(self.depth)}
        return modules | {"norm": LayerNorm(c, self.eps)}

    def timm_options(self, size: int) -> dict[str, int | bool]:
        """Return what timm needs for a size; see ChainModel.timm_options. It resizes learned positions only if asked to."""
        fix = f"timm's network takes multiples of {self.patch} pixels alone; export to stablehlo or onnx"
        require(size % self.patch == 0, "size", size, fix)
        return {} if self.positions == "rotary" else {"dynamic_img_size": True}

    def _block(self) -> nnx.Module:
        """Build a transformer block: attention, then two linear layers on every token, each of them residual."""
        from .attention import Attention, SwiGLU
        from .blocks import LayerNorm, LayerScale, PixelLinear, Residual, Sequential

        c, wide = self.features, 4 * self.features
        attention = Attention(c, c // HEAD, bias=self.qkv_bias, rotary=self.positions == "rotary", prefix=self.prefix)
        expand = SwiGLU(c, wide) if self.activation == "swiglu" else PixelLinear(c, wide, activation=self._activation())

        def half(modules: dict[str, nnx.Module]) -> Residual:
            return Residual({"norm": LayerNorm(c, self.eps)} | modules | ({"scale": LayerScale(c)} if self.scaled else {}))

        return Sequential({"attention": half({"heads": attention}), "mlp": half({"expand": expand, "project": PixelLinear(wide, c)})})

    def _activation(self) -> Callable[[Any], Any]:
        from jax.nn import sigmoid

        from .layers import gelu

        return (lambda x: x * sigmoid(1.702 * x)) if self.activation == "quick_gelu" else gelu

    def new_pool(self) -> TokenPool:
        """Build the pooling for the new head: [b, 2 · features]."""
        return self._pool("map" if self.pooling == "map" else "token", "avg")

    def reference_head(self, classes: int) -> tuple[TokenPool, LinearHead]:
        """Build the pooling and the classifier of the network itself."""
        from .head import LinearHead

        return self._pool(self.pooling), LinearHead(self.features, classes)

    def _pool(self, *parts: str) -> TokenPool:
        from .attention import AttentionPool
        from .tokens import TokenPool

        c = self.features
        return TokenPool(parts, self.prefix, AttentionPool(c, c // HEAD, self.eps, self._activation()) if "map" in parts else None)

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in timm; see ChainModel.tensors."""
        yield "patch_embed.proj", ("patch",), BARE if self.first_norm else KERNEL
        yield from (("norm_pre", ("patch", "norm"), NORM),) if self.first_norm else ()
        yield from (("norm", ("norm",), NORM),)
        for i in range(self.depth):
            theirs, ours = f"blocks.{i}", f"block{i}"
            for number, half in enumerate(("attention", "mlp"), 1):
                yield f"{theirs}.norm{number}", (ours, half, "norm"), NORM
                if self.scaled and self.positions == "rotary":
                    yield theirs, (ours, half, "scale"), {f"gamma_{number}": "gamma"}
                elif self.scaled:
                    yield f"{theirs}.ls{number}", (ours, half, "scale"), {"gamma": "gamma"}
            yield f"{theirs}.attn.qkv", (ours, "attention", "heads", "qkv"), KERNEL if self.qkv_bias else BARE
            yield f"{theirs}.attn.proj", (ours, "attention", "heads", "project"), KERNEL
            expand = (("fc1_g", ("gate",)), ("fc1_x", ("value",))) if self.activation == "swiglu" else (("fc1", ()),)
            for unit, path in (*((unit, ("expand", *inner)) for unit, inner in expand), ("fc2", ("project",))):
                yield f"{theirs}.mlp.{unit}", (ours, "mlp", *path), KERNEL
        if self.pooling == "map":
            for unit, path in (("q", "query"), ("kv", "kv"), ("proj", "project")):
                yield f"attn_pool.{unit}", ("pool", "attention", path), KERNEL
            yield "attn_pool.norm", ("pool", "attention", "mlp", "norm"), NORM
            for unit, path in (("fc1", "expand"), ("fc2", "project")):
                yield f"attn_pool.mlp.{unit}", ("pool", "attention", "mlp", path), KERNEL

    def names(self) -> dict[str, tuple[str, ...]]:
        """Map every tensor's name in weight files to its path in our trees; see ChainModel.names.

        >>> ViTSmall16().names()["blocks.11.attn.qkv.weight"]
        ('block11', 'attention', 'heads', 'qkv', 'kernel')
        """
        single = {"attn_pool.latent": ("pool", "attention", "latent")} if self.pooling == "map" else {"cls_token": ("patch", "token")}
        single |= {"reg_token": ("patch", "registers")} if self.registers else {}
        single |= {"pos_embed": ("patch", "positions", "embedding")} if self.positions != "rotary" else {}
        return super().names() | single


@dataclass(frozen=True)
class ViTTiny16(ViT):
    """ViT-Ti/16: 5.5 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    features: ClassVar = 192


@dataclass(frozen=True)
class ViTSmall16(ViT):
    """ViT-S/16: 21.7 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/vit_small_patch16_224.augreg_in21k_ft_in1k"
    features: ClassVar = 384


@dataclass(frozen=True)
class ViTBase16(ViT):
    """ViT-B/16: 85.8 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"
    features: ClassVar = 768


@dataclass(frozen=True)
class DeiT3(ViT):
    """Base class of DeiT III: layer scales, and positions of the patches only. Source: Touvron et al. 2022."""

    mean: ClassVar = (0.485, 0.456, 0.406)
    std: ClassVar = (0.229, 0.224, 0.225)
    positions: ClassVar = "patches"
    scaled: ClassVar = True


@dataclass(frozen=True)
class DeiT3Small16(DeiT3):
    """DeiT III S/16: 21.7 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/deit3_small_patch16_224.fb_in22k_ft_in1k"
    features: ClassVar = 384


@dataclass(frozen=True)
class DeiT3Base16(DeiT3):
    """DeiT III B/16: 85.8 million parameters in the body, trained at 224 pixels."""

    imagenet: ClassVar = "hf-hub:timm/deit3_base_patch16_224.fb_in22k_ft_in1k"
    features: ClassVar = 768


@dataclass(frozen=True)
class CLIPViTBase16(ViT):
    """Image tower of CLIP, B/16: 85.8 million parameters in the body, trained at 224 pixels. Source: Radford et al. 2021."""

    imagenet: ClassVar = "hf-hub:timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"
    features: ClassVar = 768
    mean: ClassVar = (0.48145466, 0.4578275, 0.40821073)
    std: ClassVar = (0.26862954, 0.26130258, 0.27577711)
    eps: ClassVar = 1e-5
    first_norm: ClassVar = True

    def check_architecture(self, name: str) -> None:
        """Raise InputError for weights of another architecture, or trained with the other GELU, which would compute something else.

        timm has the files of both under the same name.
        """
        plain = name.replace("_clip_quickgelu_", "_clip_")
        _, _, tag = plain.partition(".")
        quick = self.activation == "quick_gelu"
        other = CLIPViTBase16 if quick else CLIPQuickGELUViTBase16
        fix = f"these weights were trained with {'GELU' if quick else 'x · sigmoid(1.702 x)'}; use the model {other.__name__}"
        require(not tag or (tag in QUICK_TAGS) == quick, "model.weights", self.weights, fix)
        super().check_architecture(plain.replace("_clip_", "_clip_quickgelu_") if quick else name)


@dataclass(frozen=True)
class CLIPQuickGELUViTBase16(CLIPViTBase16):
    """CLIPViTBase16 with x · sigmoid(1.702 x) in place of GELU, as OpenAI's and MetaCLIP's weights were trained."""

    weights: str | None = "openai"
    """Source of the weights, as in `ChainModel`; there are none of ImageNet."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_base_patch16_clip_quickgelu_224"
    activation: ClassVar = "quick_gelu"


@dataclass(frozen=True)
class SigLIPViTBase16(ViT):
    """Image tower of SigLIP, B/16: 92.9 million parameters in the body, trained at 224 pixels. Source: Zhai et al. 2023."""

    weights: str | None = "v2_webli"
    """Source of the weights, as in `ChainModel`; there are none of ImageNet."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_base_patch16_siglip_224"
    features: ClassVar = 768
    pooling: ClassVar = "map"


@dataclass(frozen=True)
class DINOv2(ViT):
    """Base class of DINOv2, trained at 518 pixels without labels. Source: Oquab et al. 2023."""

    weights: str | None = "lvd142m"
    """Source of the weights, as in `ChainModel`; there are none of ImageNet."""

    mean: ClassVar = (0.485, 0.456, 0.406)
    std: ClassVar = (0.229, 0.224, 0.225)
    patch: ClassVar = 14
    smallest: ClassVar = 14
    size: ClassVar = 518
    scaled: ClassVar = True


@dataclass(frozen=True)
class DINOv2ViTSmall14(DINOv2):
    """DINOv2 S/14: 22.1 million parameters in the body."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_small_patch14_dinov2"
    features: ClassVar = 384


@dataclass(frozen=True)
class DINOv2ViTBase14(DINOv2):
    """DINOv2 B/14: 86.6 million parameters in the body."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_base_patch14_dinov2"
    features: ClassVar = 768


@dataclass(frozen=True)
class DINOv2RegViTSmall14(DINOv2):
    """DINOv2 S/14 with four registers: 22.1 million parameters in the body. Source: Darcet et al. 2023."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_small_patch14_reg4_dinov2"
    features: ClassVar = 384
    registers: ClassVar = 4
    positions: ClassVar = "patches"


@dataclass(frozen=True)
class DINOv3(ViT):
    """Base class of DINOv3, trained without labels: rotary positions, four registers, attention without bias.

    The licence of the weights (DINOv3 License) has terms of its own. Source: Siméoni et al. 2025.
    """

    weights: str | None = "lvd1689m"
    """Source of the weights, as in `ChainModel`; there are none of ImageNet."""

    mean: ClassVar = (0.485, 0.456, 0.406)
    std: ClassVar = (0.229, 0.224, 0.225)
    size: ClassVar = 256
    eps: ClassVar = 1e-5
    positions: ClassVar = "rotary"
    pooling: ClassVar = "avg"  # timm's default
    registers: ClassVar = 4
    scaled: ClassVar = True
    qkv_bias: ClassVar = False


@dataclass(frozen=True)
class DINOv3ViTSmall16(DINOv3):
    """DINOv3 S/16: 21.6 million parameters in the body."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_small_patch16_dinov3"
    features: ClassVar = 384


@dataclass(frozen=True)
class DINOv3ViTSmallPlus16(DINOv3):
    """DINOv3 S+/16, with SwiGLU: 28.7 million parameters in the body."""

    imagenet: ClassVar = ""
    timm: ClassVar = "vit_small_plus_patch16_dinov3"
    features: ClassVar = 384
    activation: ClassVar = "swiglu"
