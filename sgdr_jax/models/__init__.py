"""Networks as chains of layer groups. Describing one imports no jax; `build` does."""

from .convnext import (
    ConvNeXtBase,
    ConvNeXtSmall,
    ConvNeXtTiny,
    ConvNeXtV2Atto,
    ConvNeXtV2Base,
    ConvNeXtV2Femto,
    ConvNeXtV2Nano,
    ConvNeXtV2Pico,
    ConvNeXtV2Tiny,
)
from .efficientnet import (
    EfficientNetB0,
    EfficientNetB1,
    EfficientNetB2,
    EfficientNetB3,
    TfEfficientNetB0,
    TfEfficientNetB1,
    TfEfficientNetB2,
    TfEfficientNetB3,
)
from .efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2, EfficientNetLite3, EfficientNetLite4
from .mobilenet import MobileNetV2, MobileNetV3Large, MobileNetV3Small, TorchvisionMobileNetV3Large, TorchvisionMobileNetV3Small
from .resnet import ResNet18, ResNet34, ResNet50

__all__ = [
    "ConvNeXtBase",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtV2Atto",
    "ConvNeXtV2Base",
    "ConvNeXtV2Femto",
    "ConvNeXtV2Nano",
    "ConvNeXtV2Pico",
    "ConvNeXtV2Tiny",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetLite3",
    "EfficientNetLite4",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "TfEfficientNetB0",
    "TfEfficientNetB1",
    "TfEfficientNetB2",
    "TfEfficientNetB3",
    "TorchvisionMobileNetV3Large",
    "TorchvisionMobileNetV3Small",
]
