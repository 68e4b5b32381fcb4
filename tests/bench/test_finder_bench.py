"""The stages whose rates the finder's bench looks for: trained ones, which the recipe has only when asked."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

from sgdr_jax import Find
from sgdr_jax.core.plan import finder_steps, plan

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


def test_both_stages_are_trained_at_rates_that_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The recipe's head had come to be solved, in one update, in which the finder finds nothing."""
    monkeypatch.syspath_prepend(str(BENCH))
    import finder  # pyright: ignore[reportMissingImports]

    sys.modules.pop("finder")
    made = finder.experiment(tmp_path, Namespace(size=64, optimizer="adamw", batch_size=64), 0)
    for p in plan(made, 100).stages:
        assert isinstance(p.stage.lr, Find) and isinstance(p.stage.lr.ratio, float | int)
        assert finder_steps(p.stage.lr, p.steps_per_epoch, p.stage.name) >= 8
