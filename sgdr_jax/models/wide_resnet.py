"""WRN-d-k for small images such as CIFAR's 32 pixels: d layers, k times as wide as the ResNets for CIFAR, normalised before convolving.

Source: Zagoruyko & Komodakis 2016; used by Loshchilov & Hutter 2016, the SGDR paper. The wide networks for ImageNet are in `resnet`.

Example:
    >>> WideResNet(depth=16, widen=4).blocks[:3]
    ('stem', 'layer1.block0', 'layer1.block1')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..core.validation import require
from .base import BARE, NORM, ChainModel, Tensors

if TYPE_CHECKING:
    from flax import nnx

EPS = 1e-5


@dataclass(frozen=True)
class WideResNet(ChainModel):
    """WRN-d-k: one convolution, three layers of residual blocks, one normalisation. WRN-28-10 has 36.5 million parameters.

    Without the paper's dropout inside the blocks, as in the SGDR paper.
    """

    weights: str | None = None
    """Where the body's weights come from: a .safetensors or .pth file, or None for random ones; there are no published ImageNet weights."""
    head: Literal["new", "classifier"] = "classifier"
    """"classifier": the paper's, average pooling and one linear layer. "new": the concat-pool head."""
    cuts: tuple[str, ...] = ("layer3",)
    """Blocks (layer1 … layer3, or finer, as layer2.block1, and top) at which a new layer group begins."""
    depth: int = 28
    """Layers with weights: 6n + 4 for n blocks in each layer."""
    widen: int = 10
    """Channels are 16, 32 and 64 times this in the three layers."""

    imagenet: ClassVar = ""
    classifier: ClassVar = ("fc",)
    size: ClassVar = 32
    # Of CIFAR-10's training images.
    mean: ClassVar = (0.4914, 0.4822, 0.4465)
    std: ClassVar = (0.2470, 0.2435, 0.2616)

    def __post_init__(self) -> None:
        require(self.depth >= 10 and self.depth % 6 == 4, "model.depth", self.depth, "use 6n + 4 for n blocks in each layer, as 16 or 28")
        require(self.widen >= 1, "model.widen", self.widen, "use a factor of at least 1")
        super().__post_init__()

    @property
    def features(self) -> int:
        """Channels that leave the body."""
        return 64 * self.widen

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", *(f"layer{layer}.block{i}" for layer in (1, 2, 3) for i in range(self._repeats)), "top")

    @property
    def _repeats(self) -> int:
        return (self.depth - 4) // 6

    def modules(self, channels: int) -> dict[str, nnx.Module]:
        from jax.nn import relu

        from .blocks import BatchNorm, Conv, PreActivated

        def block(inputs: int, outputs: int, stride: int) -> PreActivated:
            row = {
                "conv1": Conv(3, inputs, outputs, stride=stride, padding=1),
                "bn2": BatchNorm(outputs, EPS, activation=relu),
                "conv2": Conv(3, outputs, outputs, padding=1),
            }
            same = stride == 1 and inputs == outputs
            return PreActivated(BatchNorm(inputs, EPS, activation=relu), row, None if same else Conv(1, inputs, outputs, stride=stride))

        modules: dict[str, nnx.Module] = {"stem": Conv(3, channels, 16, padding=1)}
        inputs = 16
        for layer in (1, 2, 3):
            outputs = 8 * 2**layer * self.widen
            for i in range(self._repeats):
                modules[f"layer{layer}.block{i}"] = block(inputs, outputs, 2 if layer > 1 and i == 0 else 1)
                inputs = outputs
        return modules | {"top": BatchNorm(inputs, EPS, activation=relu)}

    def tensors(self) -> Iterator[Tensors]:
        """Yield the names in the authors' layout for PyTorch (block1.layer.0.bn1, convShortcut); see ChainModel.tensors."""
        yield from (("conv1", ("stem",), BARE), ("bn1", ("top",), NORM))
        for layer in (1, 2, 3):
            for i in range(self._repeats):
                theirs, ours = f"block{layer}.layer.{i}", f"layer{layer}.block{i}"
                rows = [("bn1", "bn", NORM), ("conv1", "conv1", BARE), ("bn2", "bn2", NORM), ("conv2", "conv2", BARE)]
                if i == 0 and (layer > 1 or self.widen > 1):
                    rows.append(("convShortcut", "down", BARE))
                for torch, unit, leaves in rows:
                    yield f"{theirs}.{torch}", (ours, unit), leaves
