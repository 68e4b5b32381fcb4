"""Networks as chains of layer groups. Describing one imports no jax; `build` does."""

from .densenet import DenseNet121, DenseNet161, DenseNet169, DenseNet201
from .efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from .resnet import (
    ResNet18,
    ResNet18D,
    ResNet34,
    ResNet34D,
    ResNet50,
    ResNet50D,
    ResNet101,
    ResNet101D,
    ResNet152,
    ResNeXt50_32x4d,
    ResNeXt101_32x8d,
    ResNeXt101_64x4d,
    WideResNet50_2,
    WideResNet101_2,
)
from .vgg import VGG11BN, VGG13BN, VGG16BN, VGG19BN
from .wide_resnet import WideResNet

__all__ = [
    "VGG11BN",
    "VGG13BN",
    "VGG16BN",
    "VGG19BN",
    "DenseNet121",
    "DenseNet161",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "ResNeXt50_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet18",
    "ResNet18D",
    "ResNet34",
    "ResNet34D",
    "ResNet50",
    "ResNet50D",
    "ResNet101",
    "ResNet101D",
    "ResNet152",
    "WideResNet",
    "WideResNet50_2",
    "WideResNet101_2",
]
