"""A sweep of three arms that has run, without training, and its comparison."""

import json
from pathlib import Path

import pytest

from sgdr_jax.sweeps.analysis.compare import Comparison, compare_arms
from sgdr_jax.sweeps.spec import expand

from ..results import fill
from .three_arms import LEFT_OUT, SKILL, SWEEP


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweeps") / "three"
    fill(made, SWEEP, lambda run, _: SKILL[run.arm], n=400, tta=True, skip=LEFT_OUT["skip"])
    (made / "failed").mkdir()
    run = expand(SWEEP)[9]
    (made / "failed" / f"{run.hash}.json").write_text(json.dumps({"arm": run.arm, "seed": run.seed, "error": "the loss is nan"}))
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Comparison:
    return compare_arms(folder)
