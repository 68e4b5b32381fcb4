"""EfficientNetV2: where it is cut, and which weights it refuses; parity is in test_parity.py."""

import jax
import jax.numpy as jnp
import pytest

from sgdr_jax import models
from sgdr_jax.core.errors import InputError
from sgdr_jax.models import EfficientNetV2B0, EfficientNetV2RwS, EfficientNetV2S

NAMES = [name for name in models.__all__ if name.startswith("EfficientNetV2")]


@pytest.mark.parametrize("name", NAMES)
def test_the_late_group_begins_with_the_first_squeeze_and_excitation(name: str) -> None:
    """Where the side becomes a sixteenth."""
    model = getattr(models, name)(weights=None)
    first = next(index for index, block in enumerate(model.table()) if block.squeeze)
    assert model.split()["late"][0] == f"block{first}"
    network = model.build(10)
    trees = ({group: shapes[i] for group, shapes in network.shapes.items()} for i in (0, 1))
    early = jax.eval_shape(lambda *trees: network.apply(*trees, stop="late")[0], *trees, jnp.zeros((1, 64, 64, 3)))
    assert early.shape[1:3] == (8, 8) and {block.kind for block in model.table()[:first]} <= {"plain", "fused"}


def test_widths_are_rounded_without_the_rule_of_ten_percent() -> None:
    """16 · 1.2 = 19.2 becomes 16, which version 1 makes 24."""
    assert [block.outputs for block in models.EfficientNetV2B3().table() if block.stage == 0] == [16, 16]


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        (EfficientNetV2S, "efficientnetv2_rw_s.ra2_in1k", "use weights of tf_efficientnetv2_s, or the model EfficientNetV2RwS"),
        (EfficientNetV2S, "efficientnetv2_s.untrained", "same tensors, but other padding and epsilon"),
        (EfficientNetV2RwS, "tf_efficientnetv2_s.in1k", "use weights of efficientnetv2_rw_s, or the model EfficientNetV2S"),
    ],
)
def test_weights_of_the_other_variants_are_refused(model: type[EfficientNetV2B0], weights: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(weights=f"hf-hub:timm/{weights}")
