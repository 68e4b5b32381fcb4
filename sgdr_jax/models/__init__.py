"""Networks as chains of layer groups. Describing one imports no jax; `build` does."""

from .efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from .resnet import ResNet18, ResNet34, ResNet50

__all__ = ["EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2", "ResNet18", "ResNet34", "ResNet50"]
