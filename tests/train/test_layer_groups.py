"""Labels and masks of layer groups in trees of any kind."""

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import InputError, group_labels, trained_mask

from ..helpers import seeded

PARAMS = {"stem": {"w": 1}, "blocks": [{"w": 2}, {"w": 3}, {"w": 4}], "head": {"w": 5, "b": 6}}


@seeded
@given(st.integers(0, 3))
def test_every_leaf_has_the_group_of_the_longest_place_that_contains_it(cut: int) -> None:
    groups = {"early": ("stem", *(f"blocks.{i}" for i in range(cut))), "late": ("blocks",) * (cut < 3), "head": ("",)}
    labels = group_labels(PARAMS, groups)
    assert labels == {
        "stem": {"w": "early"},
        "blocks": [{"w": "early" if i < cut else "late"} for i in range(3)],
        "head": {"w": "head", "b": "head"},
    }
    mask = trained_mask(labels, ("head",))
    assert mask["head"] == {"w": True, "b": True} and not any(jax.tree.leaves([mask["stem"], mask["blocks"]]))


def test_wrong_places_and_names_are_told() -> None:
    with pytest.raises(InputError, match=r"groups is \['head'\]; blocks\.0\.w lies in none of them"):
        group_labels(PARAMS, {"head": ("head",)})
    with pytest.raises(InputError, match=r"groups is \['blocks\.3'\]; no parameters lie there"):
        group_labels(PARAMS, {"all": ("",), "more": ("blocks.3",)})
    with pytest.raises(InputError, match=r"groups is \['early', 'late'\]; 'stem' lies in early and in late; leave one out"):
        group_labels(PARAMS, {"early": ("stem",), "late": ("stem", "")})
    with pytest.raises(InputError, match=r"trained is \('body',\); the groups are all"):
        trained_mask(group_labels(PARAMS, {"all": ("",)}), ("body",))
