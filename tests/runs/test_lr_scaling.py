"""Another global batch: rates by the rule asked for, everything else as it was."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Stage
from sgdr_jax.core.learning_rates import Decay, Find, Spread
from sgdr_jax.core.plan import plan
from sgdr_jax.runs.lr_scaling import growth, rescaled
from sgdr_jax.schedules import Constant

from ..helpers import experiment, seeded


def stages(*rates: object) -> tuple[Stage, ...]:
    return tuple(Stage(f"s{i}", lr=lr, schedule=Constant(1)) for i, lr in enumerate(rates))  # pyright: ignore[reportArgumentType]


def test_given_rates_grow_and_found_ones_do_not() -> None:
    grown = rescaled(experiment(*stages(0.5, (0.25, 0.5), Spread(1e-3, 1e-2), Find(), None, Decay(0.1, 0.5)), batch_size=8), 32)
    assert [s.lr for s in grown.stages] == [2.0, (1.0, 2.0), Spread(4e-3, 4e-2), Find(), None, Decay(0.4, 0.5)]
    assert grown.batch_size == 32


@seeded
@given(st.integers(1, 512), st.integers(1, 512), st.sampled_from(["linear", "sqrt", "none"]))
def test_there_and_back_is_where_it_was(here: int, there: int, rule: str) -> None:
    one = experiment(*stages(0.1), batch_size=here)
    back = rescaled(rescaled(one, there, rule), here, rule)  # pyright: ignore[reportArgumentType]
    assert back.stages[0].lr == pytest.approx(0.1, rel=1e-12)
    assert dataclasses.replace(back, stages=one.stages) == one


def test_rules() -> None:
    assert [growth(rule, 4.0) for rule in ("linear", "sqrt", "none")] == [4, 2, 1]


def test_batches_of_stages_grow_too_or_say_that_they_cannot() -> None:
    stage = Stage("large", lr=0.1, schedule=Constant(1), batch_size=3)
    assert rescaled(experiment(stage, batch_size=8), 16).stages[0].batch_size == 6
    with pytest.raises(InputError, match=r'stage "large": batch_size is 3; 3/2 times that is not whole'):
        rescaled(experiment(stage, batch_size=8), 12)


@seeded
@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 40), st.integers(1, 300))
def test_an_epoch_of_a_small_set_shows_as_many_images_as_before(here: int, there: int, epoch_steps: int, images: int) -> None:
    """Its least number of updates stayed, each of them with more images."""
    one = experiment(*stages(0.1), batch_size=here, epoch_steps=epoch_steps)
    before, after = (plan(made, images).stages[0] for made in (one, rescaled(one, there)))
    if there <= here:
        assert rescaled(one, there).epoch_steps == epoch_steps
    else:  # counting padding
        assert after.steps_per_epoch * there < max(before.steps_per_epoch * here, images) + there


EXPERIMENT = """
from sgdr_jax import Experiment, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment("spread", data=Synthetic(classes=2, train=32, valid=8, test=8, side=8), model=Tiny(), batch_size=4, epoch_steps=9,
    stages=(Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1)),))
"""


def test_a_run_says_its_global_batch_and_the_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four devices, two images on each: twice the batch, so twice the rate."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    (tmp_path / "spread.py").write_text(EXPERIMENT)
    main(["train", str(tmp_path / "spread.py"), "--run", str(tmp_path / "run"), "--per-device", "2"])
    out = capsys.readouterr().out
    assert "global batch 8 = 4 devices of 2 images, 2 times the experiment's 4: given rates × 2 (rule linear)" in out
    assert "(rule linear), epoch_steps 5 instead of 9\n" in out
    assert "4 devices, 2 of the 8 images of a batch on each" in out
    kept = json.loads((tmp_path / "run/config.json").read_text())
    assert kept["batch_size"] == 8 and kept["epoch_steps"] == 5 and kept["stages"][0]["lr"] == 0.02
