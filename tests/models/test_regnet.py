"""RegNetY: the rule that its widths and depths follow; parity is in test_parity.py."""

from collections import Counter

import numpy as np
import pytest

from sgdr_jax import models
from sgdr_jax.models.regnet import RegNetY

RULES = {
    "RegNetY002": (13, 24, 36.44, 2.49),
    "RegNetY004": (16, 48, 27.89, 2.09),
    "RegNetY006": (15, 48, 32.54, 2.32),
    "RegNetY008": (14, 56, 38.84, 2.40),
    "RegNetY016": (27, 48, 20.71, 2.65),
    "RegNetY032": (21, 80, 42.63, 2.66),
}
"""Number of blocks, first width, its slope and the quantum of widths, from table 8 of the paper's model zoo."""


@pytest.mark.parametrize("name", RULES)
def test_widths_and_depths_follow_the_papers_rule(name: str) -> None:
    """u = first + slope · i, w = first · quantum^round(log_quantum(u / first)), a multiple of 8 and then of the group's width."""
    depth, first, slope, quantum = RULES[name]
    network: type[RegNetY] = getattr(models, name)
    exponents = np.round(np.log((first + slope * np.arange(depth)) / first) / np.log(quantum))
    blocks = Counter((np.round(first * quantum**exponents / 8) * 8).astype(int).tolist())
    assert network.depths == tuple(blocks.values())
    assert network.widths == tuple(round(width / network.group_width) * network.group_width for width in blocks)
    assert network.features == network.widths[-1] and network().groups == ("early", "late", "head")
