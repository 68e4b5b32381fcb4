"""Type tags of the first run folders, which named the module of each type, and the stable names that replaced them.

Hashes of experiments and sweeps are taken over the first tags, so that they never change. Do not add new types here; where a class was
renamed, "Old=New" maps its first name to its present one.
"""

from __future__ import annotations

_MODULES = """
augment.affine Border Rotate Shear Stretch Translate Zoom
augment.choice AugMix OneOf Slot
augment.colour Brightness Contrast Grey Hue Invert Saturation
augment.crop Crop
augment.curves Autocontrast Equalize Gamma Posterize Solarize
augment.elastic Elastic
augment.erase Cutout Erase GridMask
augment.lighting Lighting
augment.mix CutMix MixUp
augment.pixels Blur Noise Sharpen
augment.symmetries Dihedral Flip
augment.warp Warp
config AdamW Decay Eval Experiment Find Lamb Muon Optimizer Parallel Sgd Spread Stage
datasets.arrays Arrays
datasets.csv_labels CsvLabels
datasets.fashion_mnist FashionMnist
datasets.fold Fold
datasets.folder ImageFolder
datasets.hugging_face HuggingFace
datasets.mix Mix
datasets.part Part
datasets.synthetic Synthetic
datasets.tfds Tfds
datasets.train_and_valid TrainAndValid
models.base ChainModel
models.convnext ConvNeXt ConvNeXtBase ConvNeXtSmall ConvNeXtTiny ConvNeXtV2 ConvNeXtV2Atto ConvNeXtV2Base ConvNeXtV2Femto
models.convnext ConvNeXtV2Nano ConvNeXtV2Pico ConvNeXtV2Tiny
models.densenet DenseNet DenseNet121 DenseNet161 DenseNet169 DenseNet201
models.efficientnet EfficientNet EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3
models.efficientnet TfEfficientNetB0 TfEfficientNetB1 TfEfficientNetB2 TfEfficientNetB3
models.efficientnet_lite EfficientNetLite EfficientNetLite0 EfficientNetLite1 EfficientNetLite2 EfficientNetLite3 EfficientNetLite4
models.inverted_residual InvertedResiduals
models.mobilenet MobileNetV2 MobileNetV3 MobileNetV3Large MobileNetV3Small
models.mobilenet TorchvisionMobileNetV3 TorchvisionMobileNetV3Large TorchvisionMobileNetV3Small
models.resnet ResNeXt101_32x8d ResNeXt101_64x4d ResNeXt50_32x4d ResNet ResNet101 ResNet101D ResNet152 ResNet18 ResNet18D
models.resnet ResNet34 ResNet34D ResNet50 ResNet50D WideResNet101_2 WideResNet50_2
models.vgg VGG VGG11BN VGG13BN VGG16BN VGG19BN
models.wide_resnet WideResNet
schedules.combined Combined
schedules.constant Constant
schedules.cosine Cosine
schedules.first_cycles FirstCycles
schedules.lengths Images Share Steps
schedules.one_cycle OneCycle
schedules.plateau Plateau
schedules.polynomial Polynomial
schedules.sgdr Sgdr
schedules.step_decay StepDecay
search Domain Halving Integer LogUniform Median OneOf=Categorical Pruner Uniform
snapshots Snapshots
types Augmentation Dataset Length Model Schedule
"""

_PREFIX = {"config": "", "snapshots": "", "types": "", "schedules.lengths": "", "search": "sweeps."}


def _pairs() -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in _MODULES.split("\n"):
        module, *names = line.split() or [""]
        prefix = _PREFIX.get(module, module.partition(".")[0] + ".")
        for name in names:
            old, _, new = name.partition("=")
            pairs[f"sgdr_jax.{module}:{old}"] = prefix + (new or old)
    return pairs


STABLE: dict[str, str] = _pairs()
"""Stable names by first tag."""
FIRST: dict[str, str] = {name: tag for tag, name in STABLE.items()}
"""First tags by stable name."""
