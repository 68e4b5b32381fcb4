"""Parameters and multiply-adds: against the figures that are published, and counted by hand for one network."""

import dataclasses

import pytest

from sgdr_jax.models import EfficientNetLite0, ResNet18, ResNet34, ResNet50, summary
from sgdr_jax.models.base import ChainModel, networks


@pytest.mark.parametrize(
    ("model", "billions", "millions"),
    [
        # torchvision's model table: GFLOPS (multiply-adds) and parameters of the whole network.
        (ResNet18(), 1.814, 11.690),
        (ResNet34(), 3.664, 21.798),
        (ResNet50(), 4.089, 25.557),
        # Google's EfficientNet-Lite page: 407 million multiply-adds, which count more than convolutions, and 4.7 million parameters.
        (EfficientNetLite0(), 0.385, 4.652),
    ],
)
def test_counts_are_the_published_ones(model: ChainModel, billions: float, millions: float) -> None:
    blocks = summary.blocks(model)
    assert sum(block.macs for block in blocks) == pytest.approx(billions * 1e9, rel=1e-3)
    assert sum(block.parameters for block in blocks) == pytest.approx(millions * 1e6, rel=1e-3)


def test_blocks_are_counted_as_by_hand() -> None:
    stem, layer1, *_, layer4, head = summary.blocks(ResNet18())
    assert stem == ("stem", 7 * 7 * 3 * 64 + 128, 112 * 112 * 7 * 7 * 3 * 64, (56, 56, 64))
    assert layer1 == ("layer1.block0", 2 * (9 * 64 * 64 + 128), 2 * 56 * 56 * 9 * 64 * 64, (56, 56, 64))
    assert layer4.output == (512,) and head == ("head", 513_000, 512_000, (1000,))
    depthwise = summary.blocks(EfficientNetLite0())[1]  # block0: 3×3 over each of 32 channels, then 1×1 to 16
    assert depthwise.macs == 112 * 112 * (9 * 32 + 32 * 16)


def test_the_count_follows_the_image_and_not_the_cuts() -> None:
    small, large = (summary.blocks(ResNet18(), size) for size in (64, 128))
    assert large[1].macs == 4 * small[1].macs and large[1].parameters == small[1].parameters
    assert summary.blocks(dataclasses.replace(ResNet18(), cuts=()), 64) == small


@pytest.mark.parametrize("name", networks())
def test_every_network_has_a_row(name: str) -> None:
    model = networks()[name]()
    row = summary.row(name, model)
    assert row["parameters"] > 1e5 and row["macs"] > 1e7 and row["blocks"] == len(model.blocks) and row["weights"]
