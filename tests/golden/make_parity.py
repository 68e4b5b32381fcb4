"""Makes tests/golden/parity/*.npz, what networks of timm and torchvision answer: `python tests/golden/make_parity.py [PEER…]`, where torch,
torchvision and timm are installed (made with torch 2.13.0, torchvision 0.28.0, timm 1.0.31).

Weights are drawn from their names and shapes, arithmetic is float64, ten classes, three images of 64 pixels (or of `side`). To add a
network, add a row.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
CLASSES = 10


class Row(NamedTuple):
    """A network of ours and its peer.

    Attributes:
        ours: class in sgdr_jax.models.
        peer: "timm/NAME.TAG", "torchvision/NAME", or "golden/NAME" for a file NAME_torch.py beside this one.
        waypoints: our blocks, each with the pattern of the torch module that has the same output; "*" in our name counts the modules that
            match, from 0. The last one is compared as its mean over the image, as our body gives it to the classifier, or by "pool", the
            module whose output the classifier gets. None compares names and shapes of tensors only.
        changes: fields and constants of our class that make it smaller.
        options: arguments that make the peer as small.
        gradients: the peer's names of tensors whose gradients in training are compared: of the cross-entropy, for labels 0, 1, 2.
        side: of the images, at most 64, or at least 224 for the whole photograph, repeated beyond its edge.
        gain: of the drawn scales of normalisations; below 1 for a network whose activations would grow until they magnify rounding.
        channels_last: whether what leaves the peer's blocks is [b, h, w, c].
    """

    ours: str
    peer: str
    waypoints: Mapping[str, str] | None = None
    changes: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    gradients: tuple[str, ...] = ()
    side: int = 64
    gain: float = 1.0
    channels_last: bool = False

    @property
    def file(self) -> Path:
        return HERE / "parity" / f"{self.peer.replace('/', '.')}.npz"


RESNET = {"stem": "maxpool"} | {f"layer{i}.block*": rf"layer{i}\.\d+" for i in (1, 2, 3, 4)}
WIDE_RESNET = {"stem": "conv1"} | {f"layer{i}.block*": rf"block{i}\.layer\.\d+" for i in (1, 2, 3)} | {"top": "relu"}
# The ReLU of each convolution, or the pool after it.
VGG11 = {f"layer{layer}.block0": f"features.{i}" for layer, i in ((1, 3), (2, 7), (3, 10), (4, 17), (5, 24))}
VGG11 |= {f"layer{layer}.block1": f"features.{i}" for layer, i in ((3, 14), (4, 21), (5, 28))}
# The last layer of a dense block gives out what all of them have made.
DENSENET121 = {"stem": "features.pool0"} | {f"dense{i}.layer{n}": f"features.denseblock{i}" for i, n in ((1, 5), (2, 11), (3, 23), (4, 15))}
DENSENET121 |= {f"transition{i}": f"features.transition{i}" for i in (1, 2, 3)} | {"top": "features.norm5"}
EFFICIENTNET = {"stem": "bn1", "block*": r"blocks\.\d+\.\d+", "top": "bn2"}
MOBILENET3_SMALL = {"stem": "bn1", "block*": r"blocks\.[0-4]\.\d", "top": r"blocks\.5\.0", "pool": "act2"}
TV_MOBILENET3_SMALL = {"stem": r"features\.0", "block*": r"features\.([1-9]|1[01])", "top": r"features\.12", "pool": r"classifier\.1"}
MOBILENET4_SMALL = {"stem": "bn1", "block*": r"blocks\.[0-3]\.\d", "top": r"blocks\.4\.0", "pool": "norm_head"}
EFFICIENTNET_V2_GRADIENTS = ("conv_stem.weight", "blocks.2.0.conv_exp.weight", "blocks.5.7.se.conv_reduce.weight")
MOBILENET4_GRADIENTS = ("conv_stem.weight", "blocks.2.0.dw_start.conv.weight", "conv_head.weight")
CONVNEXT = {"stem": "stem"} | {f"down{i}": rf"stages\.{i}\.downsample" for i in (1, 2, 3)}
CONVNEXT |= {"block*": r"stages\.\d\.blocks\.\d+", "pool": r"head\.norm"}
CAFORMER = {"stem": "stem"} | {f"down{i}": rf"stages\.{i}\.downsample" for i in (1, 2, 3)}
# The blocks of attention see tokens, their stages images.
CAFORMER |= {"block*": r"stages\.[01]\.blocks\.\d+", "block14": r"stages\.2", "block17": r"stages\.3", "pool": r"head\.fc\.norm"}
CAFORMER_GRADIENTS = ("stages.0.blocks.1.token_mixer.act1.scale", "stages.2.blocks.4.token_mixer.qkv.weight", "head.fc.fc1.weight")
CONVNEXT_GRADIENTS = ("stem.0.weight", "stages.2.blocks.3.mlp.fc1.weight", "stages.3.blocks.1.conv_dw.weight")
REGNET = {"stem": "stem"} | {f"layer{i}.block*": rf"s{i}\.b\d+" for i in (1, 2, 3, 4)}
REGNET_GRADIENTS = ("stem.conv.weight", "s3.b2.se.fc1.weight", "s4.b1.conv2.conv.weight")
SWIN = {"patch": "patch_embed"} | {f"down{i}": rf"layers\.{i}\.downsample" for i in (1, 2, 3)}
SWIN |= {"block*": r"layers\.\d\.blocks\.\d+", "norm": "norm", "pool": r"head\.global_pool"}
SWIN_GRADIENTS = ("layers.0.blocks.1.attn.logit_scale", "layers.2.blocks.1.attn.cpb_mlp.0.weight", "layers.3.downsample.reduction.weight")
VIT = {"patch": "norm_pre", "block*": r"blocks\.\d+", "norm": "norm", "pool": "fc_norm"}
VIT_GRADIENTS = ("patch_embed.proj.weight", "blocks.1.attn.qkv.weight", "norm.bias")
POSITION_GRADIENTS = ("pos_embed", *VIT_GRADIENTS[1:])
# The peer too resizes its position embeddings in every pass.
ANY_SIZE = {"dynamic_img_size": True}
SHALLOW = {"depth": 3}
OUR_SHALLOW = {"depth": 3, "cuts": ("block1",)}

ROWS = (
    Row("ResNet18", "timm/resnet18.a1_in1k", RESNET),
    Row("ResNet18", "torchvision/resnet18"),
    Row("ResNet34", "timm/resnet34.a1_in1k"),
    Row("ResNet50", "timm/resnet50.a1_in1k", RESNET),
    Row("ResNet101", "timm/resnet101.a1_in1k"),
    Row("ResNet152", "timm/resnet152.a1_in1k"),
    Row("ResNeXt50_32x4d", "timm/resnext50_32x4d.a1h_in1k", RESNET),
    Row("ResNeXt101_32x8d", "timm/resnext101_32x8d.tv2_in1k"),
    Row("ResNeXt101_64x4d", "timm/resnext101_64x4d.c1_in1k"),
    Row("WideResNet50_2", "timm/wide_resnet50_2.racm_in1k", RESNET),
    Row("WideResNet101_2", "timm/wide_resnet101_2.tv2_in1k"),
    Row("ResNet18D", "timm/resnet18d.ra2_in1k", RESNET),
    Row("ResNet34D", "timm/resnet34d.ra2_in1k"),
    Row("ResNet50D", "timm/resnet50d.ra2_in1k", RESNET),
    Row("ResNet101D", "timm/resnet101d.ra2_in1k"),
    Row("WideResNet", "golden/wide_resnet", WIDE_RESNET, *2 * ({"depth": 16, "widen": 2},)),
    Row("RegNetY002", "timm/regnety_002.pycls_in1k", REGNET, gradients=REGNET_GRADIENTS),
    Row("RegNetY004", "timm/regnety_004.tv2_in1k"),
    Row("RegNetY006", "timm/regnety_006.pycls_in1k"),
    Row("RegNetY008", "timm/regnety_008.pycls_in1k"),
    Row("RegNetY016", "timm/regnety_016.tv2_in1k"),
    Row("RegNetY032", "timm/regnety_032.ra_in1k"),
    Row("VGG11BN", "timm/vgg11_bn.tv_in1k", VGG11, {"wide": (16, 4096)}, {"mlp_ratio": 1 / 256}),
    Row("VGG13BN", "timm/vgg13_bn.tv_in1k"),
    Row("VGG16BN", "timm/vgg16_bn.tv_in1k"),
    Row("VGG19BN", "timm/vgg19_bn.tv_in1k"),
    Row("DenseNet121", "timm/densenet121.ra_in1k", DENSENET121),
    Row("DenseNet121", "torchvision/densenet121"),
    Row("DenseNet161", "timm/densenet161.tv_in1k"),
    Row("DenseNet169", "timm/densenet169.tv_in1k"),
    Row("DenseNet201", "timm/densenet201.tv_in1k"),
    Row("EfficientNetLite0", "timm/tf_efficientnet_lite0.in1k", EFFICIENTNET),
    *(Row(f"EfficientNetLite{i}", f"timm/tf_efficientnet_lite{i}.in1k") for i in (1, 2, 3, 4)),
    Row("EfficientNetB0", "timm/efficientnet_b0.ra_in1k", EFFICIENTNET),
    Row("EfficientNetB1", "timm/efficientnet_b1.ft_in1k"),
    Row("EfficientNetB2", "timm/efficientnet_b2.ra_in1k"),
    Row("EfficientNetB3", "timm/efficientnet_b3.ra2_in1k"),
    *(Row(f"EfficientNetB{i}", f"torchvision/efficientnet_b{i}") for i in (0, 1, 2, 3)),
    Row("TfEfficientNetB0", "timm/tf_efficientnet_b0.ns_jft_in1k", EFFICIENTNET),
    *(Row(f"TfEfficientNetB{i}", f"timm/tf_efficientnet_b{i}.ns_jft_in1k") for i in (1, 2, 3)),
    Row("EfficientNetV2B0", "timm/tf_efficientnetv2_b0.in1k", EFFICIENTNET, gradients=EFFICIENTNET_V2_GRADIENTS, gain=0.7),
    *(Row(f"EfficientNetV2B{i}", f"timm/tf_efficientnetv2_b{i}.in1k") for i in (1, 2)),
    Row("EfficientNetV2B3", "timm/tf_efficientnetv2_b3.in21k_ft_in1k"),
    Row("EfficientNetV2S", "timm/tf_efficientnetv2_s.in21k_ft_in1k"),
    Row("EfficientNetV2M", "timm/tf_efficientnetv2_m.in21k_ft_in1k"),
    Row("EfficientNetV2RwS", "timm/efficientnetv2_rw_s.ra2_in1k"),
    Row("MobileNetV2", "timm/mobilenetv2_100.ra_in1k", EFFICIENTNET),
    Row("MobileNetV2", "torchvision/mobilenet_v2"),
    Row("MobileNetV3Small", "timm/mobilenetv3_small_100.lamb_in1k", MOBILENET3_SMALL),
    Row("MobileNetV3Large", "timm/mobilenetv3_large_100.ra_in1k"),
    Row("MobileNetV4Small", "timm/mobilenetv4_conv_small.e2400_r224_in1k", MOBILENET4_SMALL, gradients=MOBILENET4_GRADIENTS),
    Row("MobileNetV4Medium", "timm/mobilenetv4_conv_medium.e500_r256_in1k"),
    Row("TorchvisionMobileNetV3Small", "torchvision/mobilenet_v3_small", TV_MOBILENET3_SMALL),
    Row("TorchvisionMobileNetV3Large", "torchvision/mobilenet_v3_large"),
    Row("CAFormerS18", "timm/caformer_s18.sail_in22k_ft_in1k", CAFORMER, gradients=CAFORMER_GRADIENTS),
    Row("ConvNeXtAtto", "timm/convnext_atto.d2_in1k"),
    Row("ConvNeXtFemto", "timm/convnext_femto.d1_in1k"),
    Row("ConvNeXtPico", "timm/convnext_pico.d1_in1k"),
    Row("ConvNeXtNano", "timm/convnext_nano.in12k_ft_in1k", CONVNEXT, gradients=CONVNEXT_GRADIENTS),
    Row("ConvNeXtLarge", "timm/convnext_large.fb_in1k"),
    Row("ConvNeXtTiny", "timm/convnext_tiny.fb_in1k", CONVNEXT),
    Row("ConvNeXtTiny", "torchvision/convnext_tiny"),
    *(Row(f"ConvNeXt{size}", f"timm/convnext_{size.lower()}.fb_in1k") for size in ("Small", "Base")),
    Row("ConvNeXtV2Atto", "timm/convnextv2_atto.fcmae_ft_in1k", CONVNEXT),
    *(Row(f"ConvNeXtV2{size}", f"timm/convnextv2_{size.lower()}.fcmae_ft_in1k") for size in ("Femto", "Pico", "Nano", "Tiny", "Base")),
    # At 224 pixels the windows of the second and third stage are padded.
    Row(
        "SwinV2Tiny",
        "timm/swinv2_tiny_window8_256.ms_in1k",
        SWIN,
        {"depths": (2, 2, 2, 2)},
        {"depths": (2, 2, 2, 2), "img_size": 224, "drop_path_rate": 0},
        SWIN_GRADIENTS,
        224,
        channels_last=True,
    ),
    Row("ViTTiny16", "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", VIT, {}, ANY_SIZE, POSITION_GRADIENTS),
    Row("ViTSmall16", "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", VIT, {}, {}, VIT_GRADIENTS, 224),
    # Positions of 224 pixels resized to 288 in the pass.
    Row("ViTSmall16", "timm/vit_small_patch16_224.augreg_in1k", VIT, OUR_SHALLOW, ANY_SIZE | SHALLOW, POSITION_GRADIENTS, 288),
    Row("ViTBase16", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    Row("DeiT3Small16", "timm/deit3_small_patch16_224.fb_in22k_ft_in1k"),
    Row("DeiT3Small16", "timm/deit3_small_patch16_224.fb_in1k", VIT, OUR_SHALLOW, ANY_SIZE | SHALLOW, POSITION_GRADIENTS),
    Row("DeiT3Base16", "timm/deit3_base_patch16_224.fb_in22k_ft_in1k"),
    Row("CLIPViTBase16", "timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"),
    Row("CLIPViTBase16", "timm/vit_base_patch16_clip_224.laion2b", VIT, OUR_SHALLOW, ANY_SIZE | SHALLOW, POSITION_GRADIENTS),
    Row("CLIPQuickGELUViTBase16", "timm/vit_base_patch16_clip_224.openai"),
    Row(
        "CLIPQuickGELUViTBase16",
        "timm/vit_base_patch16_clip_quickgelu_224.openai",
        VIT,
        OUR_SHALLOW,
        ANY_SIZE | SHALLOW,
        POSITION_GRADIENTS,
    ),
    Row("SigLIPViTBase16", "timm/vit_base_patch16_siglip_224.v2_webli"),
    Row(
        "SigLIPViTBase16",
        "timm/vit_base_patch16_siglip_224.webli",
        VIT | {"pool": "attn_pool"},
        OUR_SHALLOW,
        ANY_SIZE | SHALLOW,
        ("pos_embed", "blocks.1.attn.qkv.weight", "attn_pool.latent"),
    ),
    Row("DINOv2ViTSmall14", "timm/vit_small_patch14_dinov2.lvd142m", VIT, {}, ANY_SIZE, POSITION_GRADIENTS, 56),
    Row("DINOv2ViTBase14", "timm/vit_base_patch14_dinov2.lvd142m"),
    Row("DINOv2RegViTSmall14", "timm/vit_small_patch14_reg4_dinov2.lvd142m", VIT, {}, ANY_SIZE, POSITION_GRADIENTS, 56),
    Row("DINOv3ViTSmall16", "timm/vit_small_patch16_dinov3.lvd1689m", VIT, {}, {}, ("reg_token", *VIT_GRADIENTS[1:])),
    Row("DINOv3ViTSmallPlus16", "timm/vit_small_plus_patch16_dinov3.lvd1689m", VIT, {}, {}, VIT_GRADIENTS),
)


def images(row: Row, photo: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Images of a row, uint8 [n, side, side, 3]: the photograph, or the corners of its pieces."""
    if row.side >= len(photo):
        return np.pad(photo, ((0, row.side - len(photo)), (0, row.side - len(photo)), (0, 0)), "wrap")[None]
    return crops[:, : row.side, : row.side]


def sketch(values: np.ndarray, name: str) -> np.ndarray:
    """Four random projections of each row, [n, …] to [n, 4]: any difference in any value shows, in proportion to the row's size."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    directions = np.random.default_rng(zlib.crc32(name.encode())).normal(size=(values.shape[1], 4))
    return values @ directions / np.sqrt(values.shape[1])


def modules_of(waypoints: Mapping[str, str], modules: Iterable[str]) -> dict[str, str]:
    """Our blocks' names with torch's."""
    modules, found = list(modules), {}
    for ours, pattern in waypoints.items():
        matches = [module for module in modules if re.fullmatch(pattern, module)]
        if "*" in ours:
            found |= {ours.replace("*", str(i)): module for i, module in enumerate(matches)}
        else:
            (found[ours],) = matches
    pool = found.pop("pool", None)
    return found | ({list(found)[-1]: pool} if pool else {})


def create(row: Row) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    """The peer without anything random in training, and mean and standard deviation of its images."""
    import torch

    library, _, name = row.peer.partition("/")
    options = {"num_classes": CLASSES} | row.options
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    if library == "timm":
        import timm

        config = timm.models.get_pretrained_cfg(name)
        return timm.create_model(name.partition(".")[0], **options), config.mean, config.std
    if library == "golden":
        from wide_resnet_torch import WideResNet

        return WideResNet(**options), *imagenet
    import torchvision

    net = torchvision.models.get_model(name, **options)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # as everywhere else; in torchvision's MobileNetV3 it is 0.01
    return net, *imagenet


def answers(net: Any, blocks: Mapping[str, str], x: Any, gradients: tuple[str, ...]) -> dict[str, Any]:
    """Logits and waypoints in evaluation; logits, running statistics and gradients after one pass in training."""
    import torch

    modules, last = dict(net.named_modules()), list(blocks)[-1]
    seen: dict[str, np.ndarray] = {}

    def see(name: str, y: Any) -> None:
        seen[name] = sketch((y.mean((2, 3)) if name == last and y.ndim == 4 else y).numpy(), name)

    hooks = [modules[module].register_forward_hook(lambda _, __, y, name=name: see(name, y)) for name, module in blocks.items()]
    with torch.no_grad():
        logits = net.eval()(x)
    for hook in hooks:
        hook.remove()
    trained, parameters = net.train()(x), dict(net.named_parameters())
    loss = torch.nn.functional.cross_entropy(trained, torch.arange(len(x)))
    slopes = torch.autograd.grad(loss, [parameters[name] for name in gradients]) if gradients else ()
    norms = [name for name, module in modules.items() if getattr(module, "running_mean", None) is not None]
    statistics = [[sketch(getattr(modules[n], f"running_{k}")[None].numpy(), n)[0] for k in ("mean", "var")] for n in norms]
    golden = {"blocks": list(blocks), "waypoints": [seen[name] for name in blocks], "logits": logits}
    if gradients:
        golden |= {"slopes": list(gradients), "gradients": [sketch(g[None].numpy(), n)[0] for n, g in zip(gradients, slopes, strict=True)]}
    return golden | ({"norms": norms, "statistics": statistics, "train_logits": trained.detach()} if norms else {})


def main(peers: list[str]) -> None:
    import torch
    from make_models import crops, weights

    photo = np.load(HERE / "models.npz")["photo"]
    for row in ROWS:
        if peers and row.peer not in peers:
            continue
        with torch.device("meta" if row.waypoints is None else "cpu"):
            net, mean, std = create(row)
        shapes = {name: tuple(value.shape) for name, value in net.state_dict().items() if value.ndim}
        golden = {"tensors": [f"{name} {' '.join(map(str, shape))}" for name, shape in shapes.items()], "mean": mean, "std": std}
        if row.waypoints is not None:
            net = net.double()
            net.load_state_dict({name: torch.tensor(value) for name, value in weights(shapes, row.gain).items()}, strict=False)
            x = torch.tensor(images(row, photo, crops(photo))).permute(0, 3, 1, 2).double() / 255
            x = (x - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std).double()[:, None, None]
            golden |= answers(net, modules_of(row.waypoints, dict(net.named_modules())), x, row.gradients)
        arrays = {key: np.asarray(value) for key, value in golden.items()}
        small = {key: value.astype(np.bytes_ if value.dtype.kind == "U" else np.float32) for key, value in arrays.items()}
        row.file.parent.mkdir(exist_ok=True)
        np.savez_compressed(row.file, **small)
        print(row.file.name, row.file.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
